"""Confusion matrices with and without an anomaly class, and the IoU of each class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.curve import Counts

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def count_decisions(
    truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], flagged: Bools, c: int
) -> Counts:
    """Count pixels by true class, predicted class, and whether they are flagged as anomalous.

    Args:
        truth: True class of each pixel, 0 to C - 1, or C for an anomaly.
        prediction: Class predicted by the network, 0 to C - 1, whether or not the pixel is flagged.
        flagged: Whether the pixel is flagged as anomalous.
        c: Number of known classes, C.

    Returns:
        Counts by flag (0 not flagged, 1 flagged), truth and prediction. Shape ``(2, C + 1, C)``, int64.

    Shape:
        truth, prediction and flagged ``(N,)``.
    """
    places = (flagged * (c + 1) + truth.astype(np.int64)) * c + prediction
    return np.bincount(places, minlength=2 * (c + 1) * c).reshape(2, c + 1, c)


def closed_confusion(decisions: Counts) -> Counts:
    """Compute the confusion of known pixels with nothing flagged. Shape ``(2, C + 1, C)`` to ``(C, C)``."""
    return decisions.sum(0)[:-1]


def open_confusion(decisions: Counts) -> Counts:
    """Compute the confusion of all pixels with anomaly as the last class; flagged pixels are predicted as anomaly.

    Shape:
        ``(2, C + 1, C)`` to ``(C + 1, C + 1)``; rows are the truth.
    """
    return np.concatenate([decisions[0], decisions[1].sum(1, keepdims=True)], axis=1)


def iou(confusion: Counts) -> Floats:
    """Compute ``IoU_k = TP_k / (TP_k + FP_k + FN_k)``; NaN for a class in neither truth nor prediction.

    For the matrix of :func:`open_confusion` it is the open-IoU: anomalies that are predicted as class k count in FP_k,
    and pixels of class k that are flagged as anomalous count in FN_k.

    Shape:
        ``(K, K)``, rows are the truth, to ``(K,)``.

    Source: Grcić & Šegvić, Hybrid open-set segmentation with synthetic negative data, arXiv 2301.08555.
    """
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
