"""Calibration thresholds: chosen on one dataset, and measured on another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

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
    """A calibration threshold and its origin.

    Numbers may be of any type; they are kept as Python floats of the same value.

    Args:
        value: A pixel is flagged as anomalous when ``score >= value``. The number is exact in the scores' own type, so
            that the comparison gives the same in float32 and float64.
        rule: Rule that chose the threshold; see :func:`choose_threshold`.
        level: Level of the rule; NaN for ``best_f1``.
        name: Name of the score.
        dataset: Name of the dataset on which the threshold was chosen.
        images: Hashes (:func:`anomaly.frames.image_hash`) of the images of that dataset, empty if unknown. The
            threshold should not be applied to these images.

    Raises:
        InputError: The rule is unknown, ``value`` or ``level`` is not a number, or ``value`` is NaN.
    """

    value: float
    rule: Rule
    level: float
    name: str
    dataset: str
    images: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", real("threshold", self.value, "a score"))
        level = real("level", self.level)
        object.__setattr__(self, "level", math.nan if math.isnan(level) else level)  # one NaN, which equals itself here
        object.__setattr__(self, "rule", choice("rule", self.rule, RULES))
        object.__setattr__(self, "name", text("name", self.name))
        object.__setattr__(self, "dataset", text("dataset", self.dataset))
        if math.isnan(self.value):
            raise InputError(
                "threshold: expected a score, found nan; choose it on a dataset with the pixels that its rule needs"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy or a pickle through the constructor, so that it equals the threshold even if its level is NaN."""
        return Threshold, tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Achieved:
    """Metrics at a threshold on a dataset; fractions, NaN where undefined.

    Args:
        threshold: The threshold.
        dataset: Name of the dataset to which it was applied.
        tpr: Share of the anomaly pixels that are flagged (recall).
        fpr: Share of the known pixels that are flagged.
        precision: Share of anomaly pixels among the flagged pixels.
        f1: ``2 TP / (2 TP + FP + FN)``.
        iou: ``TP / (TP + FP + FN)``.
        tp: Number of flagged anomaly pixels.
        fp: Number of flagged known pixels.
        anomaly_pixels: Number of anomaly pixels.
        known_pixels: Number of known pixels.
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
    """Check the level of a rule, and return it as a Python float.

    Args:
        rule: ``tpr``, ``fpr`` or ``best_f1``.
        level: The level; ``None`` for the default of the rule (0.95 for ``tpr``, 0.05 for ``fpr``, NaN for
            ``best_f1``).

    Raises:
        InputError: The rule is unknown, or takes no level, or the level is out of range or not a number.
    """
    choice("rule", rule, RULES)
    if rule == "best_f1" and level is not None:
        raise InputError(f"level: the rule best_f1 takes none, found {level}; leave it out, or use the rule tpr or fpr")
    level = {"tpr": 0.95, "fpr": 0.05, "best_f1": math.nan}[rule] if level is None else level
    if rule == "best_f1":
        return level
    return check_tpr(level) if rule == "tpr" else check_fpr(level)


def check_pixels(rule: Rule, known: int, anomaly: int, dataset: str) -> None:
    """Check that a dataset has the pixels that a rule needs.

    Args:
        rule: ``tpr``, ``fpr`` or ``best_f1``.
        known: Number of known pixels of the dataset.
        anomaly: Number of anomaly pixels of the dataset.
        dataset: Name of the dataset, for the message.

    Raises:
        InputError: The dataset has no pixel of a kind that the rule needs.
    """
    needed = {"tpr": (1, anomaly), "fpr": (known, 1)}
    if missing := missing_pixels(*needed.get(rule, (known, anomaly))):
        raise InputError(
            f"a threshold by the rule {rule} needs {missing} pixels, and the dataset {dataset!r} has none; use another "
            "dataset or another rule"
        )


def choose_threshold(metrics: PixelMetrics, rule: Rule = "tpr", level: float | None = None) -> Threshold:
    """Choose a threshold on a calibration dataset.

    - ``tpr``: the highest threshold that reaches a true-positive rate of ``level``. It needs no known pixel.
    - ``fpr``: the lowest threshold whose false-positive rate is at most ``level``. It needs no anomaly pixel, so
      anomaly-free images suffice.
    - ``best_f1``: the threshold that maximises F1 (the highest, if there are several).

    The threshold is exact among all numbers of the scores' type. It is found by bisection, without a copy of the
    scores, which may be in memory or on disk.

    Args:
        metrics: Scores of the calibration dataset, in exact mode.
        rule: ``tpr``, ``fpr`` or ``best_f1``.
        level: Level of the rule: ``0 < tpr <= 1`` (default 0.95) or ``0 <= fpr < 1`` (default 0.05).

    Raises:
        InputError: The dataset lacks the pixels that the rule needs, the level is out of range, or the metrics are in
            binned mode.

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
    """Compute the metrics at a threshold, usually on another dataset than the one it was chosen on.

    Args:
        threshold: A threshold of :func:`choose_threshold`.
        metrics: Scores of the same name on the dataset, in exact mode.

    Raises:
        InputError: The threshold belongs to another score, or the metrics are in binned mode.

    Warns:
        UndefinedMetricWarning: There is no known, no anomaly or no flagged pixel; values that need one are NaN.
    """
    if threshold.name != metrics.name:
        raise InputError(
            f"cannot apply a threshold of score {threshold.name!r} to score {metrics.name!r}; choose one with that "
            "score"
        )
    (tp,), (fp,) = (count.tolist() for count in metrics.counts_at(np.array([threshold.value])))
    num_known, num_anomaly = metrics.num_known, metrics.num_anomaly
    missing = missing_pixels(num_known, num_anomaly) or ("flagged" if tp + fp == 0 else "")
    if missing:
        message = f"score {metrics.name!r} at its threshold: some values are NaN: there are no {missing} pixels"
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
    """Find the highest threshold for which ``holds(tp, fp)``, a condition that every lower threshold meets too."""
    dtype = metrics.dtype
    low, high = (int(key) for key in ordered_keys(np.array([np.finfo(dtype).min, math.inf], dtype)))
    while high - low > 1:
        middle = (low + high) // 2
        value = from_ordered_keys(np.array([middle], f"i{dtype.itemsize}"))
        (tp,), (fp,) = (count.tolist() for count in metrics.counts_at(value))
        low, high = (middle, high) if holds(tp, fp) else (low, middle)
    return float(from_ordered_keys(np.array([low], f"i{dtype.itemsize}"))[0])
