"""Confusion of classes with and without an anomaly class, and the IoU of both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.curve import Counts

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def count_decisions(
    truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], called: Bools, c: int
) -> Counts:
    """Count pixels by what they are, what the network says, and whether they are called anomalous.

    Args:
        truth: Class of each pixel that counts, 0 to c - 1, or c for an anomaly.
        prediction: The network's class, 0 to c - 1, whether or not the pixel is called anomalous.
        called: Whether it is called anomalous.
        c: C, the number of known classes.

    Shape:
        truth, prediction and called ``(N,)``, to ``(2, C + 1, C)`` int64: not called and called, truth, prediction.
    """
    places = (called * (c + 1) + truth.astype(np.int64)) * c + prediction
    return np.bincount(places, minlength=2 * (c + 1) * c).reshape(2, c + 1, c)


def closed_confusion(decisions: Counts) -> Counts:
    """Known pixels by class and prediction, nothing called anomalous: ``(2, C + 1, C)`` to ``(C, C)``."""
    return decisions.sum(0)[:-1]


def open_confusion(decisions: Counts) -> Counts:
    """All pixels by class and decision, anomaly the last of both: ``(2, C + 1, C)`` to ``(C + 1, C + 1)``."""
    return np.concatenate([decisions[0], decisions[1].sum(1, keepdims=True)], axis=1)


def iou(confusion: Counts) -> Floats:
    """``IoU_k = TP_k / (TP_k + FP_k + FN_k)``; NaN for a class in neither truth nor decisions.

    Of :func:`open_confusion` this is the open-IoU of Grcić & Šegvić (Hybrid open-set segmentation with synthetic
    negative data, arXiv 2301.08555): anomalies that pass for class k are among FP_k, and pixels of class k that are
    called anomalous among FN_k.

    Shape:
        ``(K, K)``, rows the truth, to ``(K,)``.
    """
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
