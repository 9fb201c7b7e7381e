"""Rules by which other projects take FPR95 and AP from a curve, and the curve of SegmentMeIfYouCan's bins.

Higher = more anomalous, and anomaly is the positive class. Operating points are those of
:func:`anomaly.metrics.functional.curve.operating_points`, with at least one known and one anomaly pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.curve import Counts, OperatingPoints
from anomaly.metrics.runs import FrameScores

Floats = npt.NDArray[np.float64]
TPR = 0.95
QUANTILES = 384  # of each class and frame, SegmentMeIfYouCan's PixBinaryClass


def fpr_above_tpr(points: OperatingPoints, tpr: float = TPR) -> float:
    """FPR at the first point with true-positive rate ``> tpr`` of scikit-learn's ``roc_curve``, as RbA takes it.

    That curve leaves points out that lie on a straight line between their neighbours (``drop_intermediate``), so that
    with tied scores the first point left may lie further on.
    """
    first = np.flatnonzero(points.tp / points.num_anomaly > tpr)
    if not first.size:
        return math.nan
    alike = (points.hits[1:] == points.hits[:-1]) & (points.ties[1:] == points.ties[:-1])
    left_out = np.append(alike & (points.fp[1:] - points.ties[1:] == points.fp[:-1]), False)
    left_out[0] &= points.fp[0] != points.ties[0]  # a curve's first point stays
    return float(points.fp[first[~left_out[first]][0]] / points.num_known)


def fpr_nearest_tpr(points: OperatingPoints, tpr: float = TPR) -> float:
    """FPR where the true-positive rate is nearest to ``tpr``, above or below, by Hendrycks' ``fpr_and_fdr_at_recall``.

    Among thresholds of equal distance it takes the lowest one, so of equal recall the one with the most false
    positives: that just above the next anomaly pixel's score.
    """
    distance = np.abs(points.tp / points.num_anomaly - tpr)
    nearest = distance.size - 1 - int(np.argmin(distance[::-1]))
    before_next = np.append(points.fp[1:] - points.ties[1:], points.fp[-1])
    return float(before_next[nearest] / points.num_known)


def fpr_interpolated(points: OperatingPoints, tpr: float = TPR) -> float:
    """FPR where straight lines between the points of the ROC curve reach ``tpr``, by ood-metrics' ``fpr_at_95_tpr``.

    Where a threshold reaches ``tpr`` exactly, the largest FPR with that rate is taken, as ``numpy.interp`` does.
    ood-metrics gives 0 where no point reaches ``tpr``, which a whole curve always does.
    """
    tp, fp = corners(points)
    return float(np.interp(tpr, tp / points.num_anomaly, fp / points.num_known))


def average_precision_trapezoid(points: OperatingPoints) -> float:
    """Area under straight lines between the points of the precision-recall curve: ``auc(recall, precision)``.

    Every score is a threshold, those of known pixels too, and the curve starts at recall 0 with precision 1. The lines
    pass through points that no threshold reaches (Davis & Goadrich 2006).
    """
    tp, fp = corners(points)
    precision = np.divide(tp, tp + fp, out=np.ones(tp.size), where=tp + fp > 0)
    return float(np.trapezoid(precision, tp / points.num_anomaly))


def corners(points: OperatingPoints) -> tuple[Counts, Counts]:
    """True and false positives before and at each anomaly score: with straight lines between, the whole ROC curve.

    Shape:
        Two arrays ``(2 T + 1,)``.
    """
    tp, fp = np.zeros(2 * points.tp.size + 1, np.int64), np.zeros(2 * points.tp.size + 1, np.int64)
    tp[2::2], fp[2::2] = points.tp, points.fp
    tp[1::2], fp[1::2] = points.tp - points.hits, points.fp - points.ties
    return tp, fp


@dataclass(frozen=True)
class SmiycCurve:
    """The curve of SegmentMeIfYouCan's bins, from the highest threshold down.

    Args:
        thresholds: The lower edges of bins.
        tp: Anomaly pixels in all bins so far.
        fp: Known pixels likewise.

    Shape:
        Each ``(T,)``.
    """

    thresholds: Floats
    tp: Counts
    fp: Counts

    def best_f1(self) -> tuple[float, float]:
        """The largest F1 of any threshold, and that threshold (the highest, if several)."""
        f1 = 2 * self.tp / (self.tp + self.fp + self.tp[-1])
        return float(f1.max()), float(self.thresholds[np.argmax(f1)])


def smiyc_curve(frames: Iterable[FrameScores]) -> SmiycCurve | None:
    """SegmentMeIfYouCan's ``PixBinaryClass`` (Chan et al. 2021, code as of August 2023), to its last detail.

    Each frame's float16 scores are counted in bins whose edges are up to 384 quantiles of its anomaly pixels and as
    many of its known pixels, with one edge below and one above them all. A bin's pixels then count as if they had the
    score of its lower edge, and the frames' bins are put in one order. Of equal thresholds the last is kept, and the
    very first in any case.

    Returns:
        The curve, or None where a score is infinite as float16: its quantiles have no value.
    """
    every: list[tuple[Floats, Counts, Counts]] = []
    for frame in frames:
        with np.errstate(over="ignore"):
            parts = [part.astype(np.float16).astype(np.float64) for part in (frame.anomaly, frame.known)]
        ends = np.concatenate([part[[0, -1]] for part in parts if part.size] or [np.empty(0)])
        if not np.isfinite(ends).all():
            return None
        if ends.size:
            low, high = ends.min(), ends.max()
            margin = max((high - low) * 0.01, 0.01)
            edges = [np.quantile(part, np.linspace(0, 1, min(QUANTILES, part.size))) for part in parts if part.size]
            bins = np.unique(np.concatenate([[low - margin, high + margin], *edges]))
            hits, ties = (np.histogram(part, bins)[0][::-1] for part in parts)
            every.append((bins[-2::-1], hits, ties))
    thresholds, hits, ties = (np.concatenate(part) for part in zip(*every, strict=True))
    order = np.argsort(thresholds)[::-1]
    return binned_curve(thresholds[order], hits[order], ties[order])


def binned_curve(thresholds: Floats, hits: Counts, ties: Counts) -> SmiycCurve:
    """Add bins up, the highest first; of equal thresholds keep the last, and keep the very first.

    Shape:
        Each ``(T,)``.
    """
    last = np.append(thresholds[1:] != thresholds[:-1], True)
    last[0] = True
    return SmiycCurve(thresholds[last], np.cumsum(hits)[last], np.cumsum(ties)[last])
