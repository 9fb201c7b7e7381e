"""Figures from the operating points of a score: exact, ties included.

Each function takes what :func:`anomaly.metrics.functional.curve.operating_points` finds in the sorted scores of
all N known and all P anomaly pixels. Higher = more anomalous, and anomaly is the positive class. Counts are int64
and ratios float64 whatever the scores' type. Where N or P is 0 the result is NaN with an
``UndefinedMetricWarning``.

Behind each function is a class that takes a curve in parts, from the highest threshold down, for curves that do not
fit into memory: ``add`` each part, then ask for the ``value``, which is NaN, without a warning, where N or P is 0.
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
    """A metric has no value on this input and is NaN."""


class CurveFigure(Protocol):
    """A figure of a curve that comes in parts."""

    def add(self, part: OperatingPoints) -> None:
        """Take the next part, its thresholds below those of all before."""

    def value(self) -> float:
        """The figure of all parts."""


class Auroc:
    """See :func:`auroc`."""

    def __init__(self) -> None:
        self._twice_wins = 0
        self._twice_pairs = 0

    def add(self, part: OperatingPoints) -> None:
        """Take the next part."""
        self._twice_pairs = 2 * part.num_known * part.num_anomaly
        self._twice_wins += int(part.hits @ (2 * (part.num_known - part.fp) + part.ties))

    def value(self) -> float:
        """The figure of all parts."""
        return self._twice_wins / self._twice_pairs if self._twice_pairs else math.nan


class AveragePrecision:
    """See :func:`average_precision`."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._num_anomaly = 0

    def add(self, part: OperatingPoints) -> None:
        """Take the next part."""
        self._num_anomaly = part.num_anomaly if part.num_known else 0
        self._sum += float(np.sum(part.hits * (part.tp / (part.tp + part.fp))))

    def value(self) -> float:
        """The figure of all parts."""
        return self._sum / self._num_anomaly if self._num_anomaly else math.nan


class FprAtTpr:
    """See :func:`fpr_at_tpr`."""

    def __init__(self, tpr: float) -> None:
        self._tpr = tpr
        self._fpr = math.nan

    def add(self, part: OperatingPoints) -> None:
        """Take the next part."""
        if math.isnan(self._fpr) and part.tp.size and part.num_known:
            reached = np.searchsorted(part.tp / part.num_anomaly, self._tpr, side="left")
            if reached < part.tp.size:
                self._fpr = float(part.fp[reached] / part.num_known)

    def value(self) -> float:
        """The figure of all parts."""
        return self._fpr


class RecallAtFpr:
    """See :func:`recall_at_fpr`."""

    def __init__(self, fpr: float) -> None:
        self._fpr = fpr
        self._recall = math.nan

    def add(self, part: OperatingPoints) -> None:
        """Take the next part."""
        if not part.num_known or not part.num_anomaly:
            return
        within = np.searchsorted(part.fp / part.num_known, self._fpr, side="right")
        recall = float(part.tp[within - 1] / part.num_anomaly) if within else 0.0
        self._recall = max(recall, 0.0 if math.isnan(self._recall) else self._recall)

    def value(self) -> float:
        """The figure of all parts."""
        return self._recall


class BestF1:
    """See :func:`best_f1`."""

    def __init__(self) -> None:
        self._f1 = math.nan
        self.threshold = math.nan

    def add(self, part: OperatingPoints) -> None:
        """Take the next part."""
        if not part.tp.size or not part.num_known:
            return
        f1 = 2 * part.tp / (part.tp + part.fp + part.num_anomaly)
        best = int(np.argmax(f1))
        if not f1[best] <= self._f1:
            self._f1, self.threshold = float(f1[best]), float(part.thresholds[best])

    def value(self) -> float:
        """The figure of all parts."""
        return self._f1


class BestF1Threshold(BestF1):
    """The threshold of :func:`best_f1`."""

    def value(self) -> float:
        """The figure of all parts."""
        return self.threshold


def auroc(points: OperatingPoints) -> float:
    """Area under the ROC curve: the chance that an anomaly pixel outscores a known one, a tie counting half.

    This is the Mann-Whitney statistic ``(#{k < a} + #{k = a} / 2) / (N P)`` (Hanley & McNeil 1982), an exact
    quotient of integers, equal to the trapezoid area under the curve.

    Args:
        points: Of the score.

    Returns:
        A fraction in 0..1, 0.5 for a useless score, or NaN where N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> auroc(operating_points(np.array([0.0, 1.0, 1.0, 2.0]), np.array([1.0, 3.0])))
        0.75
    """
    return _figure("AUROC", Auroc(), points)


def average_precision(points: OperatingPoints) -> float:
    """Average precision: the step sum ``sum_i (R_i - R_{i-1}) P_i`` over descending thresholds.

    Not the trapezoid under the precision-recall curve, which interpolates to points no threshold reaches
    (Davis & Goadrich 2006). Pixels of equal score are called anomalous together.

    Args:
        points: Of the score.

    Returns:
        A fraction in 0..1, about ``P / (N + P)`` for a useless score, or NaN where N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> average_precision(operating_points(np.array([0.0, 2.0]), np.array([1.0, 3.0])))  # (1/1 + 2/3) / 2
        0.8333333333333333
    """
    return _figure("average precision", AveragePrecision(), points)


def fpr_at_tpr(points: OperatingPoints, tpr: float = 0.95) -> float:
    """False-positive rate at the first threshold, from the highest down, with true-positive rate ``>= tpr``.

    No interpolation between thresholds. TPR is compared as the correctly rounded quotient ``tp / P``, so that
    19 of 20 reach 0.95.

    Args:
        points: Of the score.
        tpr: Level to reach, ``0 < tpr <= 1``.

    Returns:
        A fraction in 0..1, lower is better, or NaN where N or P is 0.

    Raises:
        InputError: ``tpr`` is out of range.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> fpr_at_tpr(operating_points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 4.0])), tpr=0.5)
        0.0
        >>> fpr_at_tpr(operating_points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 4.0])))
        0.25
    """
    return _figure("FPR at TPR", FprAtTpr(check_tpr(tpr)), points)


def recall_at_fpr(points: OperatingPoints, fpr: float = 0.05) -> float:
    """The largest recall (true-positive rate) of any threshold with false-positive rate ``<= fpr``.

    FPR is compared as the correctly rounded quotient ``fp / N``. No interpolation between thresholds.

    Args:
        points: Of the score.
        fpr: Level not to exceed, ``0 <= fpr < 1``.

    Returns:
        A fraction in 0..1, 0 where no threshold that catches an anomaly pixel keeps the level, or NaN where N or
        P is 0.

    Raises:
        InputError: ``fpr`` is out of range.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> recall_at_fpr(operating_points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 4.0])), fpr=0.1)
        0.5
    """
    return _figure("recall at FPR", RecallAtFpr(check_fpr(fpr)), points)


def best_f1(points: OperatingPoints) -> tuple[float, float]:
    """The largest F1 of any threshold, ``2 TP / (2 TP + FP + FN)``, and that threshold (the highest, if several).

    Args:
        points: Of the score.

    Returns:
        F1, a fraction in 0..1, and an anomaly pixel's score: a pixel is called anomalous when ``score >=`` it.
        Both NaN where N or P is 0.

    Examples:
        >>> from anomaly.metrics.functional.curve import operating_points
        >>> best_f1(operating_points(np.array([0.0, 2.0]), np.array([1.0, 3.0])))
        (0.8, 1.0)
    """
    figure = BestF1()
    return _figure("best F1", figure, points), figure.threshold


def check_tpr(tpr: float) -> float:
    """Give the level as a Python float; raise ``InputError`` unless ``0 < tpr <= 1``."""
    tpr = real("tpr", tpr, "a fraction above 0 and up to 1")
    if not 0 < tpr <= 1:
        raise InputError(f"tpr: expected a fraction above 0 and up to 1, found {tpr}; 0.95 is the usual level")
    return tpr


def check_fpr(fpr: float) -> float:
    """Give the level as a Python float; raise ``InputError`` unless ``0 <= fpr < 1``."""
    fpr = real("fpr", fpr, "a fraction from 0 and below 1")
    if not 0 <= fpr < 1:
        raise InputError(f"fpr: expected a fraction from 0 and below 1, found {fpr}; 0.05 is a usual level")
    return fpr


def missing_pixels(num_known: int, num_anomaly: int) -> str:
    """Say which pixels there are none of: ``known``, ``anomaly``, both, or nothing."""
    return " and ".join(name for name, count in (("known", num_known), ("anomaly", num_anomaly)) if count == 0)


def _figure(name: str, figure: CurveFigure, points: OperatingPoints) -> float:
    if missing := missing_pixels(points.num_known, points.num_anomaly):
        warnings.warn(f"{name} is NaN: there are no {missing} pixels", UndefinedMetricWarning, stacklevel=3)
    figure.add(points)
    return figure.value()
