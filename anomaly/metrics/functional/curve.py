"""Operating points of a score: counts of flagged pixels at every threshold that affects a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError

Scores = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]
DENSE = 4  # range of keys per score up to which counting is faster than sorting


@dataclass(frozen=True)
class OperatingPoints:
    """Counts with each distinct anomaly score as threshold, from the highest to the lowest.

    A pixel is flagged as anomalous when ``score >= threshold``. Recall is constant between two anomaly scores, so
    these points suffice for AUROC, average precision, F1 and FPR at TPR. They may be one part of a curve that is too
    long for memory; ``tp`` and ``fp`` still count all pixels of the curve at or above the threshold.

    Args:
        thresholds: Distinct anomaly scores, strictly descending.
        tp: Flagged anomaly pixels, int64, strictly ascending.
        fp: Flagged known pixels, int64, ascending.
        hits: Anomaly pixels whose score equals the threshold, int64.
        ties: Known pixels whose score equals the threshold, int64.
        num_known: Number of known pixels of the whole curve, N.
        num_anomaly: Number of anomaly pixels of the whole curve, P.

    Shape:
        The arrays ``(T,)``, where T is the number of distinct anomaly scores.
    """

    thresholds: Scores
    tp: Counts
    fp: Counts
    hits: Counts
    ties: Counts
    num_known: int
    num_anomaly: int


class Tally(NamedTuple):
    """Counts at the distinct scores of anomaly pixels, ascending. Shape of each: ``(T,)``.

    Args:
        thresholds: The distinct scores.
        hits: Anomaly pixels whose score equals the threshold, int64.
        below: Known pixels whose score is below the threshold, int64.
        ties: Known pixels whose score equals the threshold, int64.
    """

    thresholds: Scores
    hits: Counts
    below: Counts
    ties: Counts


def operating_points(known: Scores, anomaly: Scores) -> OperatingPoints:
    """Find the operating points of two sorted lists of scores.

    This takes two passes over the lists, and one binary search for each distinct anomaly score (two where it ties
    with a known score). Nothing is sorted.

    Args:
        known: Scores of all known pixels, ascending; may be empty.
        anomaly: Scores of all anomaly pixels, ascending; if empty, there are no points.

    Shape:
        known ``(N,)``, anomaly ``(P,)``.

    Raises:
        InputError: A list is not ascending or holds a NaN.
    """
    check_ascending("known", known)
    check_ascending("anomaly", anomaly)
    thresholds, hits = _distinct(anomaly)
    return _points(Tally(thresholds, hits, *_search(known, thresholds)), known.size, anomaly.size)


def part_of_curve(
    known: Scores,
    anomaly: Scores,
    above: tuple[int, int],
    num_known: int,
    num_anomaly: int,
    count: Callable[[Scores, Scores], Tally] | None = None,
) -> OperatingPoints:
    """Find the operating points in a range of scores, from all pixels in this range.

    Args:
        known: Scores of known pixels in the range, in any order, without ``-0.0``; may be sorted in place.
        anomaly: Scores of anomaly pixels in the range, in any order, without ``-0.0``; may be sorted in place.
        above: Numbers of anomaly and of known pixels with scores above the range.
        num_known: Number of known pixels of the whole curve, N.
        num_anomaly: Number of anomaly pixels of the whole curve, P.
        count: Counts what :func:`tally` counts, in another way; by default that function.

    Shape:
        known ``(N',)``, anomaly ``(P',)``.
    """
    points = _points((count or tally)(known, anomaly), known.size, anomaly.size)
    return OperatingPoints(
        points.thresholds, points.tp + above[0], points.fp + above[1], points.hits, points.ties, num_known, num_anomaly
    )


def tally(known: Scores, anomaly: Scores) -> Tally:
    """Count the pixels at the distinct scores of anomaly pixels.

    If the scores cover few distinct floating-point numbers, known scores are counted instead of sorted. Lists that
    consist of a few ascending parts are merged.

    Args:
        known: Scores of known pixels, in any order, without ``-0.0``; may be sorted in place. Shape: ``(N',)``.
        anomaly: Scores of anomaly pixels, in any order, without ``-0.0``; sorted in place. Shape: ``(P',)``.
    """
    anomaly.sort(kind="stable")  # merges the ascending scores of each frame, which takes less time than sorting
    thresholds, hits = _distinct(anomaly)
    counted = _count(known, thresholds)
    if counted is None:
        known.sort(kind="stable")
        counted = _search(known, thresholds)
    return Tally(thresholds, hits, *counted)


def ordered_keys(scores: Scores) -> npt.NDArray[Any]:
    """Map float32 to int32, or float64 to int64, preserving the order; adjacent floats get adjacent integers.

    ``-0.0`` and ``0.0`` get adjacent keys. :func:`from_ordered_keys` is the inverse.
    """
    bits = 8 * scores.dtype.itemsize
    keys = scores.view(f"i{scores.dtype.itemsize}")
    return keys ^ ((keys >> (bits - 1)) & keys.dtype.type(2 ** (bits - 1) - 1))


def from_ordered_keys(keys: npt.NDArray[Any]) -> Scores:
    """Map keys of :func:`ordered_keys` back to floats."""
    bits = 8 * keys.dtype.itemsize
    return (keys ^ ((keys >> (bits - 1)) & keys.dtype.type(2 ** (bits - 1) - 1))).view(f"f{keys.dtype.itemsize}")


def check_ascending(name: str, scores: Scores) -> None:
    """Raise ``InputError`` unless ``scores`` is 1-D, ascending (equal neighbours are allowed) and without NaN."""
    if scores.ndim != 1 or not np.all(scores[1:] >= scores[:-1]) or (scores.size == 1 and np.isnan(scores[0])):
        raise InputError(
            f"{name}: expected a 1-D array of ascending scores without NaN, found shape {scores.shape}"
            f"{' not ascending or with NaN' if scores.ndim == 1 else ''}; flatten and np.sort it first"
        )


def _distinct(scores: Scores) -> tuple[Scores, Counts]:
    """Return the distinct values of an ascending list, ascending, and how often each occurs."""
    first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1])[: scores.size])
    return scores[first], np.diff(first, append=scores.size)


def _search(known: Scores, thresholds: Scores) -> tuple[Counts, Counts]:
    """Count the scores below each threshold and those equal to it, in an ascending list."""
    below = np.searchsorted(known, thresholds, side="left")
    ties = np.zeros_like(below)
    if known.size:
        tied = known[np.minimum(below, known.size - 1)] == thresholds
        ties[tied] = np.searchsorted(known, thresholds[tied], side="right") - below[tied]
    return below, ties


def _count(known: Scores, thresholds: Scores) -> tuple[Counts, Counts] | None:
    """Count the scores below each threshold and those equal to it, in a list in any order, by counting each key.

    Returns:
        Both counts; ``None`` if the range of keys is too large, or the types differ.
    """
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


def _points(counts: Tally, num_known: int, num_anomaly: int) -> OperatingPoints:
    """Make operating points, with descending thresholds, from counts at ascending thresholds."""
    hits, fp = counts.hits[::-1], num_known - counts.below[::-1]
    return OperatingPoints(
        counts.thresholds[::-1], np.cumsum(hits), fp, hits, counts.ties[::-1], num_known, num_anomaly
    )
