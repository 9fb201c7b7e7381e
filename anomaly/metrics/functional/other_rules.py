"""Rules of other projects for FPR95 and AP, and the binned curve of SegmentMeIfYouCan.

Higher = more anomalous, and anomaly is the positive class. All functions expect operating points of
:func:`anomaly.metrics.functional.curve.operating_points` with at least one known and one anomaly pixel.
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
    """Compute the FPR at the first point of scikit-learn's ``roc_curve`` with a true-positive rate ``> tpr``.

    That curve leaves out points on a straight line between their neighbours (``drop_intermediate``). With tied scores
    the first remaining point may therefore lie further along the curve.

    Source: the code of RbA.
    """
    first = np.flatnonzero(points.tp / points.num_anomaly > tpr)
    if not first.size:
        return math.nan
    alike = (points.hits[1:] == points.hits[:-1]) & (points.ties[1:] == points.ties[:-1])
    left_out = np.append(alike & (points.fp[1:] - points.ties[1:] == points.fp[:-1]), False)
    left_out[0] &= points.fp[0] != points.ties[0]  # the first point of a curve is always kept
    return float(points.fp[first[~left_out[first]][0]] / points.num_known)


def fpr_nearest_tpr(points: OperatingPoints, tpr: float = TPR) -> float:
    """Compute the FPR at the true-positive rate nearest to ``tpr``, above or below it.

    Of several thresholds at the same distance the lowest is used. At equal recall this is the one with the most false
    positives, just above the next anomaly score.

    Source: ``fpr_and_fdr_at_recall`` of Hendrycks et al.
    """
    distance = np.abs(points.tp / points.num_anomaly - tpr)
    nearest = distance.size - 1 - int(np.argmin(distance[::-1]))
    before_next = np.append(points.fp[1:] - points.ties[1:], points.fp[-1])
    return float(before_next[nearest] / points.num_known)


def fpr_interpolated(points: OperatingPoints, tpr: float = TPR) -> float:
    """Compute the FPR at ``tpr``, interpolated linearly between the points of the ROC curve.

    If a threshold reaches ``tpr`` exactly, the largest FPR with that rate is used, as in ``numpy.interp``. ood-metrics
    returns 0 if no point reaches ``tpr``; a complete curve always reaches it.

    Source: ``fpr_at_95_tpr`` of ood-metrics.
    """
    tp, fp = corners(points)
    return float(np.interp(tpr, tp / points.num_anomaly, fp / points.num_known))


def average_precision_trapezoid(points: OperatingPoints) -> float:
    """Compute the area under the precision-recall curve by the trapezoid rule: ``auc(recall, precision)``.

    Every score is a threshold, including those of known pixels, and the curve starts at recall 0 with precision 1. The
    straight lines pass through points that no threshold reaches (Davis & Goadrich 2006).
    """
    tp, fp = corners(points)
    precision = np.divide(tp, tp + fp, out=np.ones(tp.size), where=tp + fp > 0)
    return float(np.trapezoid(precision, tp / points.num_anomaly))


def corners(points: OperatingPoints) -> tuple[Counts, Counts]:
    """Return true and false positives before and at each anomaly score.

    Straight lines between these points give the whole ROC curve.

    Shape:
        Two arrays ``(2 T + 1,)``.
    """
    tp, fp = np.zeros(2 * points.tp.size + 1, np.int64), np.zeros(2 * points.tp.size + 1, np.int64)
    tp[2::2], fp[2::2] = points.tp, points.fp
    tp[1::2], fp[1::2] = points.tp - points.hits, points.fp - points.ties
    return tp, fp


@dataclass(frozen=True)
class SmiycCurve:
    """A curve over the bins of SegmentMeIfYouCan, from the highest threshold down.

    Args:
        thresholds: Lower edges of the bins.
        tp: Anomaly pixels at or above each threshold.
        fp: Known pixels at or above each threshold.

    Shape:
        Each ``(T,)``.
    """

    thresholds: Floats
    tp: Counts
    fp: Counts

    def best_f1(self) -> tuple[float, float]:
        """Return the largest F1 of any threshold, and that threshold (the highest, if several)."""
        f1 = 2 * self.tp / (self.tp + self.fp + self.tp[-1])
        return float(f1.max()), float(self.thresholds[np.argmax(f1)])


def smiyc_curve(frames: Iterable[FrameScores]) -> SmiycCurve | None:
    """Compute the curve of SegmentMeIfYouCan's ``PixBinaryClass``, in every detail.

    The float16 scores of each frame are counted in bins. Their edges are up to 384 quantiles of the frame's anomaly
    pixels, as many of its known pixels, and one edge below and one above all of them. Each pixel then counts at the
    lower edge of its bin, and the bins of all frames are sorted together. Of equal thresholds the last is kept, and
    also the very first of the curve.

    Args:
        frames: Sorted scores of each frame.

    Returns:
        The curve; ``None`` if a score is infinite in float16, so that quantiles are undefined.

    Source: Chan et al., SegmentMeIfYouCan (2021), code of August 2023.
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
    """Sum up bins from the highest threshold down; of equal thresholds keep the last, and also the very first.

    Args:
        thresholds: Lower edges of the bins, descending.
        hits: Anomaly pixels in each bin.
        ties: Known pixels in each bin.

    Shape:
        Each ``(T,)``.
    """
    last = np.append(thresholds[1:] != thresholds[:-1], True)
    last[0] = True
    return SmiycCurve(thresholds[last], np.cumsum(hits)[last], np.cumsum(ties)[last])
