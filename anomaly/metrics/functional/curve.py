"""Operating points: what a threshold on the score catches, for every threshold that can matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError

Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class OperatingPoints:
    """Counts at each distinct anomaly score used as threshold, from the highest to the lowest.

    A pixel is called anomalous when ``score >= threshold``. Between two anomaly scores recall stands still,
    so these points are all that average precision and FPR at TPR need.

    Args:
        thresholds: Distinct anomaly scores, strictly descending.
        tp: Anomaly pixels called anomalous, int64, strictly ascending up to the number of anomaly pixels.
        fp: Known pixels called anomalous, int64, ascending.
        ties: Known pixels whose score equals the threshold, int64.
        num_known: N, all known pixels.
        num_anomaly: P, all anomaly pixels.

    Shape:
        The arrays ``(T,)`` with ``T`` the number of distinct anomaly scores.
    """

    thresholds: Scores
    tp: npt.NDArray[np.int64]
    fp: npt.NDArray[np.int64]
    ties: npt.NDArray[np.int64]
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
    starts_group = np.append(True, anomaly[1:] != anomaly[:-1])[: anomaly.size]
    first = np.flatnonzero(starts_group)[::-1]
    thresholds = anomaly[first]
    below = np.searchsorted(known, thresholds, side="left").astype(np.int64)
    ties = np.zeros_like(below)
    if known.size:
        tied = known[np.minimum(below, known.size - 1)] == thresholds
        ties[tied] = np.searchsorted(known, thresholds[tied], side="right") - below[tied]
    tp = (anomaly.size - first).astype(np.int64)
    return OperatingPoints(thresholds, tp, known.size - below, ties, known.size, anomaly.size)


def check_ascending(name: str, scores: Scores) -> None:
    """Raise ``InputError`` unless ``scores`` is 1-D and ascending (equal neighbours allowed) without NaN."""
    if scores.ndim != 1 or not np.all(scores[1:] >= scores[:-1]):
        raise InputError(
            f"{name}: expected a 1-D array of ascending scores without NaN, found shape {scores.shape}"
            f"{' out of order or with NaN' if scores.ndim == 1 else ''}; flatten and np.sort it first"
        )
