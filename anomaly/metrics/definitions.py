"""The table of all metrics of a curve.

A new metric is a class in ``anomaly/metrics/functional/``, its test, and one line in the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from anomaly.errors import InputError
from anomaly.metrics.functional.curve import OperatingPoints
from anomaly.metrics.functional.ranking import (
    Auroc,
    AveragePrecision,
    BestF1,
    BestF1Threshold,
    CurveMetric,
    FprAtTpr,
    RecallAtFpr,
    check_fpr,
    check_tpr,
)
from anomaly.utils.given import real

PER_IMAGE = "_per_image"


@dataclass(frozen=True)
class Levels:
    """Levels and threshold of the metrics.

    Numbers may be of any type; they are kept as Python floats of the same value.

    Args:
        tpr: True-positive rate at which the false-positive rate is taken, ``0 < tpr <= 1``.
        fpr: Largest false-positive rate for the recall at a false-positive rate, ``0 <= fpr < 1``.
        threshold: Pixels with ``score >= threshold`` are flagged for F1 and IoU; ``None`` leaves these out.

    Raises:
        InputError: A level is out of range, the threshold is not finite, or a value is not a number.
    """

    tpr: float = 0.95
    fpr: float = 0.05
    threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr", check_tpr(self.tpr))
        object.__setattr__(self, "fpr", check_fpr(self.fpr))
        if self.threshold is not None:
            threshold = real("threshold", self.threshold, "a finite score, or None", finite=True)
            object.__setattr__(self, "threshold", threshold)


@dataclass(frozen=True)
class MetricDefinition:
    """A metric of a curve.

    Args:
        name: Name in results and columns. It may hold a level in percent, as in ``fpr{tpr}``.
        title: Title in tables.
        better: ``max`` if higher is better, ``min`` if lower is better, ``None`` if neither.
        make: Makes an accumulator of the metric.
        per_image: Whether the mean over images is meaningful.
    """

    name: str
    title: str
    better: Callable[[Iterable[float]], float] | None
    make: Callable[[Levels], CurveMetric]
    per_image: bool = True

    def at(self, levels: Levels) -> str:
        """Return the name with its level."""
        return self.name.format(tpr=_percent(levels.tpr), fpr=_percent(levels.fpr).zfill(2))


def _percent(level: float) -> str:
    """Format a level in percent with all its digits and without an exponent."""
    text = f"{100 * level:.10f}".rstrip("0").rstrip(".")
    if float(text) in (0.0, 100.0) and level not in (0.0, 1.0):
        raise InputError(
            f"level: expected a fraction that differs from 0 and 1 in the first ten digits of its percentage, found "
            f"{level!r}; give 0, 1 or a value further from them"
        )
    return text


PIXEL_METRICS: tuple[MetricDefinition, ...] = (
    MetricDefinition("auroc", "AUROC", max, lambda levels: Auroc()),
    MetricDefinition("ap", "AP", max, lambda levels: AveragePrecision()),
    MetricDefinition("fpr{tpr}", "FPR{tpr}", min, lambda levels: FprAtTpr(levels.tpr)),
    MetricDefinition("best_f1", "best F1", max, lambda levels: BestF1()),
    MetricDefinition(
        "best_f1_threshold", "threshold of best F1", None, lambda levels: BestF1Threshold(), per_image=False
    ),
    MetricDefinition("recall_at_fpr{fpr}", "recall at FPR {fpr}", max, lambda levels: RecallAtFpr(levels.fpr)),
)


def title_of(name: str) -> tuple[str, Callable[[Iterable[float]], float] | None]:
    """Return the title of a pooled metric and which direction is better.

    Args:
        name: Name with its level, such as ``fpr95``.

    Returns:
        The title, and ``max``, ``min`` or ``None`` as in :class:`MetricDefinition`.

    Raises:
        InputError: There is no metric of that name.
    """
    for metric in PIXEL_METRICS:
        pattern = re.escape(metric.name).replace(r"\{tpr\}", r"([\d.]+)").replace(r"\{fpr\}", r"([\d.]+)")
        if found := re.fullmatch(pattern, name):
            level = found[1] if found.groups() else ""
            return metric.title.format(tpr=level, fpr=level), metric.better
    raise InputError(f"unknown metric {name!r}; the metrics are {', '.join(metric.name for metric in PIXEL_METRICS)}")


def measure(
    curve: Iterable[OperatingPoints], levels: Levels, *, per_image: bool = False, more: Sequence[CurveMetric] = ()
) -> dict[str, float]:
    """Compute every metric in one pass over a curve.

    Args:
        curve: Parts of the curve, from the highest threshold down.
        levels: Levels of the metrics.
        per_image: Leave out metrics whose mean over images is not meaningful.
        more: Further accumulators that get every part.

    Returns:
        Values by name; NaN if there is no known or no anomaly pixel.
    """
    taken = {metric.at(levels): metric.make(levels) for metric in PIXEL_METRICS if metric.per_image or not per_image}
    for part in curve:
        for metric in (*taken.values(), *more):
            metric.add(part)
    return {name: metric.value() for name, metric in taken.items()}


def at_threshold(tp: int, fp: int, num_anomaly: int) -> dict[str, float]:
    """Compute F1 and IoU of the anomaly class from pixel counts.

    ``F1 = 2 TP / (2 TP + FP + FN)`` and ``IoU = TP / (TP + FP + FN)``, where ``TP + FN`` are all anomaly pixels.

    Args:
        tp: Number of flagged anomaly pixels.
        fp: Number of flagged known pixels.
        num_anomaly: Number of anomaly pixels.

    Returns:
        ``f1`` and ``iou``; NaN without anomaly pixels.
    """
    if num_anomaly == 0:
        return {"f1": math.nan, "iou": math.nan}
    return {"f1": 2 * tp / (tp + fp + num_anomaly), "iou": tp / (fp + num_anomaly)}
