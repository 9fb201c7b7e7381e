"""AUROC, average precision and FPR at TPR from the operating points of a score: exact, ties included.

Each function takes what :func:`anomaly.metrics.functional.curve.operating_points` finds in the sorted scores of
all N known and all P anomaly pixels. Higher = more anomalous, and anomaly is the positive class. Counts are int64
and ratios float64 whatever the scores' type. Where N or P is 0 the result is NaN with an
``UndefinedMetricWarning``.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from anomaly.errors import InputError
from anomaly.metrics.functional.curve import OperatingPoints


class UndefinedMetricWarning(UserWarning):
    """A metric has no value on this input and is NaN."""


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
    if not _is_defined("AUROC", points):
        return math.nan
    pixels = np.diff(points.tp, prepend=0)  # anomaly pixels at each threshold
    twice_below = 2 * (points.num_known - points.fp) + points.ties
    return int(pixels @ twice_below) / (2 * points.num_known * points.num_anomaly)


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
    if not _is_defined("average precision", points):
        return math.nan
    precision = points.tp / (points.tp + points.fp)
    return float(np.sum(np.diff(points.tp, prepend=0) * precision) / points.num_anomaly)


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
    check_tpr(tpr)
    if not _is_defined("FPR at TPR", points):
        return math.nan
    reached = np.searchsorted(points.tp / points.num_anomaly, tpr, side="left")
    return float(points.fp[reached] / points.num_known)


def check_tpr(tpr: float) -> None:
    """Raise ``InputError`` unless ``0 < tpr <= 1``."""
    if not 0 < tpr <= 1:
        raise InputError(f"tpr: expected a fraction above 0 and up to 1, found {tpr}; 0.95 is the usual level")


def _is_defined(metric: str, points: OperatingPoints) -> bool:
    counts = {"known": points.num_known, "anomaly": points.num_anomaly}
    missing = [name for name, count in counts.items() if count == 0]
    if missing:
        pixels = " and ".join(missing)
        warnings.warn(f"{metric} is NaN: there are no {pixels} pixels", UndefinedMetricWarning, stacklevel=3)
    return not missing
