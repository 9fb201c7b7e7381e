"""Operating points: what a threshold on the score catches, for every threshold that can matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError

Scores = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]
DENSE = 4  # keys between the ends of a list, per score in it, up to which counting beats sorting


@dataclass(frozen=True)
class OperatingPoints:
    """Counts at each distinct anomaly score used as threshold, from the highest to the lowest.

    A pixel is called anomalous when ``score >= threshold``. Between two anomaly scores recall stands still,
    so these points are all that average precision and FPR at TPR need. They may be one part of a curve too long
    for memory: ``tp`` and ``fp`` then count all pixels of the curve at or above the threshold.

    Args:
        thresholds: Distinct anomaly scores, strictly descending.
        tp: Anomaly pixels called anomalous, int64, strictly ascending.
        fp: Known pixels called anomalous, int64, ascending.
        hits: Anomaly pixels whose score equals the threshold, int64.
        ties: Known pixels whose score equals the threshold, int64.
        num_known: N, all known pixels of the curve.
        num_anomaly: P, all anomaly pixels of the curve.

    Shape:
        The arrays ``(T,)`` with ``T`` the number of distinct anomaly scores.
    """

    thresholds: Scores
    tp: Counts
    fp: Counts
    hits: Counts
    ties: Counts
    num_known: int
    num_anomaly: int


def operating_points(known: Scores, anomaly: Scores) -> OperatingPoints:
    """Find the operating points of two sorted lists of scores.

    Costs two passes over the lists and one binary search per distinct anomaly score (two where it ties with a
    known one); nothing is sorted.

    Args:
        known: Scores of all known pixels, ascending. May be empty.
        anomaly: Scores of all anomaly pixels, ascending. May be empty: no points.

    Shape:
        known ``(N,)``, anomaly ``(P,)``.

    Raises:
        InputError: A list is not ascending or holds a NaN.
    """
    check_ascending("known", known)
    check_ascending("anomaly", anomaly)
    thresholds, hits = _distinct(anomaly)
    return _points(thresholds, hits, *_search(known, thresholds), known.size, anomaly.size)


def part_of_curve(
    known: Scores, anomaly: Scores, above: tuple[int, int], num_known: int, num_anomaly: int
) -> OperatingPoints:
    """Find the operating points between two scores, from all pixels between them.

    Where the scores lie close together, as floating-point numbers go, known ones are counted instead of sorted.

    Args:
        known: Their known pixels' scores, in any order, without ``-0.0``; may be sorted in place.
        anomaly: Their anomaly pixels' scores, in any order, without ``-0.0``; sorted in place.
        above: Numbers of anomaly and of known pixels with higher scores.
        num_known: N, all known pixels of the curve.
        num_anomaly: P, all anomaly pixels of the curve.

    Shape:
        known ``(N',)``, anomaly ``(P',)``.
    """
    anomaly.sort()
    thresholds, hits = _distinct(anomaly)
    counted = _count(known, thresholds)
    if counted is None:
        known.sort()
        counted = _search(known, thresholds)
    points = _points(thresholds, hits, *counted, known.size, anomaly.size)
    return OperatingPoints(
        points.thresholds, points.tp + above[0], points.fp + above[1], points.hits, points.ties, num_known, num_anomaly
    )


def ordered_keys(scores: Scores) -> npt.NDArray[Any]:
    """Map float32 to int32, or float64 to int64, so that the order stays and neighbouring floats are 1 apart.

    ``-0.0`` and ``0.0`` get neighbouring keys. :func:`from_ordered_keys` maps back.
    """
    bits = 8 * scores.dtype.itemsize
    keys = scores.view(f"i{scores.dtype.itemsize}")
    return keys ^ ((keys >> (bits - 1)) & keys.dtype.type(2 ** (bits - 1) - 1))


def from_ordered_keys(keys: npt.NDArray[Any]) -> Scores:
    """Invert :func:`ordered_keys`, which is its own inverse on the bits."""
    bits = 8 * keys.dtype.itemsize
    return (keys ^ ((keys >> (bits - 1)) & keys.dtype.type(2 ** (bits - 1) - 1))).view(f"f{keys.dtype.itemsize}")


def check_ascending(name: str, scores: Scores) -> None:
    """Raise ``InputError`` unless ``scores`` is 1-D and ascending (equal neighbours allowed) without NaN."""
    if scores.ndim != 1 or not np.all(scores[1:] >= scores[:-1]) or (scores.size == 1 and np.isnan(scores[0])):
        raise InputError(
            f"{name}: expected a 1-D array of ascending scores without NaN, found shape {scores.shape}"
            f"{' out of order or with NaN' if scores.ndim == 1 else ''}; flatten and np.sort it first"
        )


def _distinct(scores: Scores) -> tuple[Scores, Counts]:
    """Distinct values of an ascending list, ascending, and how often each occurs."""
    first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1])[: scores.size])
    return scores[first], np.diff(first, append=scores.size)


def _search(known: Scores, thresholds: Scores) -> tuple[Counts, Counts]:
    """Count the scores of an ascending list below and at each threshold."""
    below = np.searchsorted(known, thresholds, side="left")
    ties = np.zeros_like(below)
    if known.size:
        tied = known[np.minimum(below, known.size - 1)] == thresholds
        ties[tied] = np.searchsorted(known, thresholds[tied], side="right") - below[tied]
    return below, ties


def _count(known: Scores, thresholds: Scores) -> tuple[Counts, Counts] | None:
    """Do as ``_search`` on a list in any order, by counting how often each key occurs; None where keys are too many."""
    if not known.size or not thresholds.size or known.dtype != thresholds.dtype:
        return None
    keys, at = ordered_keys(known), ordered_keys(thresholds)
    low, high = int(min(keys.min(), at[0])), int(max(keys.max(), at[-1]))
    if high - low > DENSE * known.size:
        return None
    per_key = np.bincount(keys - keys.dtype.type(low), minlength=high - low + 1)
    at = at.astype(np.int64) - low
    ties = per_key[at]
    return np.cumsum(per_key, out=per_key)[at] - ties, ties


def _points(
    thresholds: Scores, hits: Counts, below: Counts, ties: Counts, num_known: int, num_anomaly: int
) -> OperatingPoints:
    """Turn counts at ascending thresholds round."""
    hits = hits[::-1]
    return OperatingPoints(
        thresholds[::-1], np.cumsum(hits), num_known - below[::-1], hits, ties[::-1], num_known, num_anomaly
    )
