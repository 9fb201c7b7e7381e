"""A detector's threshold: chosen on one split, and what it then achieves on another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anomaly.errors import InputError
from anomaly.metrics.definitions import at_threshold
from anomaly.metrics.functional.curve import from_ordered_keys, ordered_keys
from anomaly.metrics.functional.ranking import UndefinedMetricWarning, check_fpr, check_tpr, missing_pixels
from anomaly.metrics.pixel import PixelMetrics
from anomaly.utils.given import choice, real, text

Rule = Literal["tpr", "fpr", "best_f1"]
RULES = ("tpr", "fpr", "best_f1")


@dataclass(frozen=True)
class Threshold:
    """A threshold and where it comes from.

    Args:
        value: A pixel is called anomalous when ``score >= value``. A number of the scores' own type, so that the
            comparison does the same in float32 and in float64.
        rule: What it was chosen by: see :func:`choose_threshold`.
        level: The rule's; NaN for ``best_f1``.
        name: Of the score.
        set: That it was chosen on.
        images: What tells the images of that set from others, by
            :func:`anomaly.frames.image_hash`; empty where that is not known. The threshold is not to be
            applied to them.

    Numbers may be of any type, and are kept as Python floats of the same value.

    Raises:
        InputError: There is no such rule, the value or the level is no number, or the value is NaN.
    """

    value: float
    rule: Rule
    level: float
    name: str
    dataset: str
    images: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", real("threshold", self.value, "a score"))
        object.__setattr__(self, "level", real("level", self.level))
        object.__setattr__(self, "rule", choice("rule", self.rule, RULES))
        object.__setattr__(self, "name", text("name", self.name))
        object.__setattr__(self, "dataset", text("dataset", self.dataset))
        if math.isnan(self.value):
            raise InputError(
                "threshold: expected a score, found nan; choose it on a dataset that has the pixels it needs"
            )


@dataclass(frozen=True)
class Achieved:
    """What a threshold achieves on a split. Fractions, NaN where undefined.

    Args:
        threshold: The threshold.
        set: That it was applied to.
        tpr: Share of the anomaly pixels that are called anomalous (recall).
        fpr: Share of the known pixels that are called anomalous.
        precision: Share of anomaly pixels among those called anomalous.
        f1: ``2 TP / (2 TP + FP + FN)``.
        iou: ``TP / (TP + FP + FN)``.
        tp: Anomaly pixels called anomalous.
        fp: Known pixels called anomalous.
        anomaly_pixels: All anomaly pixels.
        known_pixels: All known pixels.
    """

    threshold: Threshold
    dataset: str
    tpr: float
    fpr: float
    precision: float
    f1: float
    iou: float
    tp: int
    fp: int
    anomaly_pixels: int
    known_pixels: int


def check_level(rule: Rule, level: float | None) -> float:
    """The level of a rule as a Python float, its default where none is given.

    Raises:
        InputError: It is out of range or no number, the rule has none, or there is no such rule.
    """
    choice("rule", rule, RULES)
    if rule == "best_f1" and level is not None:
        raise InputError(f"level: best_f1 has none, found {level}; leave it out, or choose the rule tpr or fpr")
    level = {"tpr": 0.95, "fpr": 0.05, "best_f1": math.nan}[rule] if level is None else level
    if rule == "best_f1":
        return level
    return check_tpr(level) if rule == "tpr" else check_fpr(level)


def check_pixels(rule: Rule, known: int, anomaly: int, dataset: str) -> None:
    """Refuse a split without the pixels that a rule needs.

    Args:
        rule: The rule.
        known: Number of the split's known pixels.
        anomaly: Number of its anomaly pixels.
        dataset: Its name.

    Raises:
        InputError: It has none of a kind that the rule needs.
    """
    needed = {"tpr": (1, anomaly), "fpr": (known, 1)}
    if missing := missing_pixels(*needed.get(rule, (known, anomaly))):
        raise InputError(
            f"a threshold by the rule {rule} needs {missing} pixels, and the dataset {dataset!r} has none; choose it "
            "on another dataset, or by another rule"
        )


def choose_threshold(metrics: PixelMetrics, rule: Rule = "tpr", level: float | None = None) -> Threshold:
    """Choose a threshold on a split.

    - ``tpr``: the largest that calls at least ``level`` of the anomaly pixels anomalous; needs no known pixel.
    - ``fpr``: the smallest that calls at most ``level`` of the known pixels anomalous; needs no anomaly pixel, so that
      ordinary images suffice.
    - ``best_f1``: the one of the largest F1 (the highest, if several).

    Exact: no score is left out, and no number between two scores is missed. Found by bisection, without a copy of the
    scores, in memory or on disk.

    Args:
        metrics: The scores of the split, in exact mode.
        rule: ``tpr``, ``fpr`` or ``best_f1``.
        level: ``0 < tpr <= 1``, 0.95 where it is not given; or ``0 <= fpr < 1``, 0.05 where it is not given.

    Raises:
        InputError: The split has not the pixels that the rule needs, the level is out of range, or the metrics are
            binned.

    Examples:
        >>> metrics = PixelMetrics("msp", dataset="validation")
        >>> metrics.update("a", np.float32([[1, 2, 3, 4]]), np.uint8([[0, 0, 1, 1]]))
        >>> choose_threshold(metrics, "tpr", 0.5).value
        4.0
        >>> choose_threshold(metrics, "fpr", 0.5).value  # the next number after 1
        1.0000001192092896
    """
    level = check_level(rule, level)
    check_pixels(rule, metrics.num_known, metrics.num_anomaly, metrics.dataset)
    if rule == "tpr":
        value = _last(metrics, lambda tp, fp: tp / metrics.num_anomaly >= level)
    elif rule == "fpr":
        last = _last(metrics, lambda tp, fp: fp / metrics.num_known > level)
        value = float(np.nextafter(metrics.dtype.type(last), metrics.dtype.type(math.inf)))
    else:
        value = metrics.compute()["best_f1_threshold"]
    return Threshold(value, rule, level, metrics.name, metrics.dataset)


def apply_threshold(threshold: Threshold, metrics: PixelMetrics) -> Achieved:
    """Measure what a threshold really achieves on a split, mostly another than the one it was chosen on.

    Args:
        threshold: What :func:`choose_threshold` gave.
        metrics: The same score on the split, in exact mode.

    Raises:
        InputError: The threshold is one of another score, or the metrics are binned.

    Warns:
        UndefinedMetricWarning: There is no known or no anomaly pixel, or none is called anomalous, and what needs
            them is NaN.
    """
    if threshold.name != metrics.name:
        raise InputError(
            f"cannot apply a threshold of score {threshold.name!r} to score {metrics.name!r}; choose one with the same"
        )
    (tp,), (fp,) = (count.tolist() for count in metrics.counts_at(np.array([threshold.value])))
    num_known, num_anomaly = metrics.num_known, metrics.num_anomaly
    missing = missing_pixels(num_known, num_anomaly) or ("called" if tp + fp == 0 else "")
    if missing:
        message = f"score {metrics.name!r} at its threshold: figures are NaN: there are no {missing} pixels"
        warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
    return Achieved(
        threshold=threshold,
        dataset=metrics.dataset,
        tpr=tp / num_anomaly if num_anomaly else math.nan,
        fpr=fp / num_known if num_known else math.nan,
        precision=tp / (tp + fp) if tp + fp else math.nan,
        **at_threshold(tp, fp, num_anomaly if num_known else 0),
        tp=tp,
        fp=fp,
        anomaly_pixels=num_anomaly,
        known_pixels=num_known,
    )


def _last(metrics: PixelMetrics, holds: Callable[[int, int], bool]) -> float:
    """The largest threshold whose counts of anomaly and known pixels satisfy what all low enough ones do."""
    dtype = metrics.dtype
    low, high = (int(key) for key in ordered_keys(np.array([np.finfo(dtype).min, math.inf], dtype)))
    while high - low > 1:
        middle = (low + high) // 2
        value = from_ordered_keys(np.array([middle], f"i{dtype.itemsize}"))
        (tp,), (fp,) = (count.tolist() for count in metrics.counts_at(value))
        low, high = (middle, high) if holds(tp, fp) else (low, middle)
    return float(from_ordered_keys(np.array([low], f"i{dtype.itemsize}"))[0])
