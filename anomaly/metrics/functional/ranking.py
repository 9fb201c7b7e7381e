"""Metrics of a ranking, from the operating points of a score; exact, including ties.

Each function takes the operating points that :func:`anomaly.metrics.functional.curve.operating_points` finds in the
sorted scores of N known and P anomaly pixels. Higher = more anomalous, and anomaly is the positive class. Counts are
int64 and ratios float64, whatever the type of the scores. If N or P is 0, the result is NaN with an
``UndefinedMetricWarning``.

Each function has a class for curves that do not fit into memory. It takes a curve in parts, from the highest threshold
down: ``add`` each part, then call ``value``. If N or P is 0, the value is NaN, without a warning.
"""

from __future__ import annotations

import math
import warnings
from typing import Protocol

import numpy as np

from anomaly.errors import InputError
from anomaly.metrics.functional.curve import OperatingPoints
from anomaly.utils.given import real


class UndefinedMetricWarning(UserWarning):
    """A metric is undefined for this input and is NaN."""


class CurveMetric(Protocol):
    """A metric that is computed from the parts of a curve."""

    def add(self, part: OperatingPoints) -> None:
        """Add the next part, whose thresholds are below those of all earlier parts."""

    def value(self) -> float:
        """Return the value over all parts."""


class Auroc:
    """Accumulates :func:`auroc` over the parts of a curve."""

    def __init__(self) -> None:
        self._twice_wins = 0
        self._twice_pairs = 0

    def add(self, part: OperatingPoints) -> None:
        """Add the next part."""
        self._twice_pairs = 2 * part.num_known * part.num_anomaly
        self._twice_wins += int(part.hits @ (2 * (part.num_known - part.fp) + part.ties))

    def value(self) -> float:
        """Return the value over all parts."""
        return self._twice_wins / self._twice_pairs if self._twice_pairs else math.nan


class AveragePrecision:
    """Accumulates :func:`average_precision` over the parts of a curve."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._num_anomaly = 0

    def add(self, part: OperatingPoints) -> None:
        """Add the next part."""
        self._num_anomaly = part.num_anomaly if part.num_known else 0
        self._sum += float(np.sum(part.hits * (part.tp / (part.tp + part.fp))))

    def value(self) -> float:
        """Return the value over all parts."""
        return self._sum / self._num_anomaly if self._num_anomaly else math.nan


class FprAtTpr:
    """Accumulates :func:`fpr_at_tpr` over the parts of a curve."""

    def __init__(self, tpr: float) -> None:
        self._tpr = tpr
        self._fpr = math.nan

    def add(self, part: OperatingPoints) -> None:
        """Add the next part."""
        if math.isnan(self._fpr) and part.tp.size and part.num_known:
            reached = np.searchsorted(part.tp / part.num_anomaly, self._tpr, side="left")
            if reached < part.tp.size:
                self._fpr = float(part.fp[reached] / part.num_known)

    def value(self) -> float:
        """Return the value over all parts."""
        return self._fpr


class RecallAtFpr:
    """Accumulates :func:`recall_at_fpr` over the parts of a curve."""

    def __init__(self, fpr: float) -> None:
        self._fpr = fpr
        self._recall = math.nan

    def add(self, part: OperatingPoints) -> None:
        """Add the next part."""
        if not part.num_known or not part.num_anomaly:
            return
        within = np.searchsorted(part.fp / part.num_known, self._fpr, side="right")
        recall = float(part.tp[within - 1] / part.num_anomaly) if within else 0.0
        self._recall = max(recall, 0.0 if math.isnan(self._recall) else self._recall)

    def value(self) -> float:
        """Return the value over all parts."""
        return self._recall


class BestF1:
    """Accumulates the F1 of :func:`best_f1`, and its ``threshold``, over the parts of a curve."""

    def __init__(self) -> None:
        self._f1 = math.nan
        self.threshold = math.nan

    def add(self, part: OperatingPoints) -> None:
        """Add the next part."""
        if not part.tp.size or not part.num_known:
            return
        f1 = 2 * part.tp / (part.tp + part.fp + part.num_anomaly)
        best = int(np.argmax(f1))
        if not f1[best] <= self._f1:
            self._f1, self.threshold = float(f1[best]), float(part.thresholds[best])

    def value(self) -> float:
        """Return the value over all parts."""
        return self._f1


class BestF1Threshold(BestF1):
    """Accumulates the threshold of :func:`best_f1` over the parts of a curve."""

    def value(self) -> float:
        """Return the threshold over all parts."""
        return self.threshold


def auroc(points: OperatingPoints) -> float:
    """Compute the area under the ROC curve.

    It is the probability that an anomaly pixel has a higher score than a known pixel, where a tie counts half. This is
    the Mann-Whitney statistic ``(#{k < a} + #{k = a} / 2) / (N P)``, an exact quotient of integers, and equals the area
    under the curve by the trapezoid rule.

    Args:
        points: Operating points of the score.

    Returns:
        A fraction in 0..1, higher is better, 0.5 for an uninformative score; NaN if N or P is 0.

    Warns:
        UndefinedMetricWarning: N or P is 0.

    Source: Hanley & McNeil (1982).

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> auroc(operating_points(np.array([0.0, 1.0, 1.0, 2.0]), np.array([1.0, 3.0])))
        0.75
    """
    return _value("AUROC", Auroc(), points)


def average_precision(points: OperatingPoints) -> float:
    """Compute average precision, the step sum ``sum_i (R_i - R_{i-1}) P_i`` over descending thresholds.

    It is not the area by the trapezoid rule, which interpolates to points that no threshold reaches (Davis & Goadrich
    2006). Pixels of equal score are flagged together.

    Args:
        points: Operating points of the score.

    Returns:
        A fraction in 0..1, higher is better, about ``P / (N + P)`` for an uninformative score; NaN if N or P is 0.

    Warns:
        UndefinedMetricWarning: N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> average_precision(operating_points(np.array([0.0, 2.0]), np.array([1.0, 3.0])))  # (1/1 + 2/3) / 2
        0.8333333333333333
    """
    return _value("average precision", AveragePrecision(), points)


def fpr_at_tpr(points: OperatingPoints, tpr: float = 0.95) -> float:
    """Compute the false-positive rate at the highest threshold with a true-positive rate ``>= tpr``.

    There is no interpolation between thresholds. The true-positive rate is compared as the correctly rounded quotient
    ``tp / P``, so that 19 of 20 reach 0.95.

    Args:
        points: Operating points of the score.
        tpr: True-positive rate to reach, ``0 < tpr <= 1``.

    Returns:
        A fraction in 0..1, lower is better; NaN if N or P is 0.

    Raises:
        InputError: ``tpr`` is out of range.

    Warns:
        UndefinedMetricWarning: N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> fpr_at_tpr(operating_points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 4.0])), tpr=0.5)
        0.0
        >>> fpr_at_tpr(operating_points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 4.0])))
        0.25
    """
    return _value("FPR at TPR", FprAtTpr(check_tpr(tpr)), points)


def recall_at_fpr(points: OperatingPoints, fpr: float = 0.05) -> float:
    """Compute the largest recall (true-positive rate) of any threshold with a false-positive rate ``<= fpr``.

    There is no interpolation between thresholds. The false-positive rate is compared as the correctly rounded quotient
    ``fp / N``.

    Args:
        points: Operating points of the score.
        fpr: Largest false-positive rate, ``0 <= fpr < 1``.

    Returns:
        A fraction in 0..1, higher is better; 0 if every threshold that flags an anomaly pixel exceeds ``fpr``; NaN if
        N or P is 0.

    Raises:
        InputError: ``fpr`` is out of range.

    Warns:
        UndefinedMetricWarning: N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> recall_at_fpr(operating_points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 4.0])), fpr=0.1)
        0.5
    """
    return _value("recall at FPR", RecallAtFpr(check_fpr(fpr)), points)


def best_f1(points: OperatingPoints) -> tuple[float, float]:
    """Compute the largest F1 of any threshold, ``2 TP / (2 TP + FP + FN)``, and that threshold.

    Args:
        points: Operating points of the score.

    Returns:
        F1, a fraction in 0..1, higher is better, and the threshold (the highest, if several): pixels with
        ``score >= threshold`` are flagged. Both are NaN if N or P is 0.

    Warns:
        UndefinedMetricWarning: N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> best_f1(operating_points(np.array([0.0, 2.0]), np.array([1.0, 3.0])))
        (0.8, 1.0)
    """
    metric = BestF1()
    return _value("best F1", metric, points), metric.threshold


def check_tpr(tpr: float) -> float:
    """Return the level as a Python float; raise ``InputError`` unless ``0 < tpr <= 1``."""
    tpr = real("tpr", tpr, "a fraction above 0 and up to 1")
    if not 0 < tpr <= 1:
        raise InputError(f"tpr: expected a fraction above 0 and up to 1, found {tpr}; 0.95 is the usual level")
    return tpr


def check_fpr(fpr: float) -> float:
    """Return the level as a Python float; raise ``InputError`` unless ``0 <= fpr < 1``."""
    fpr = real("fpr", fpr, "a fraction from 0 and below 1")
    if not 0 <= fpr < 1:
        raise InputError(f"fpr: expected a fraction from 0 and below 1, found {fpr}; 0.05 is a usual level")
    return fpr


def missing_pixels(num_known: int, num_anomaly: int) -> str:
    """Name the kinds of pixels that are missing: ``known``, ``anomaly``, ``known and anomaly``, or an empty text."""
    return " and ".join(name for name, count in (("known", num_known), ("anomaly", num_anomaly)) if count == 0)


def _value(name: str, metric: CurveMetric, points: OperatingPoints) -> float:
    if missing := missing_pixels(points.num_known, points.num_anomaly):
        warnings.warn(f"{name} is NaN: there are no {missing} pixels", UndefinedMetricWarning, stacklevel=3)
    metric.add(points)
    return metric.value()
