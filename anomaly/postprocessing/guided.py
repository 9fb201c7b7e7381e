"""Smoothing that preserves the edges of the image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image, ScoreMap


def guided(score: ScoreMap, image: Image, *, radius: int = 8, eps: float = 1e-3) -> ScoreMap:
    """Guided filter: within every window, the score is approximated by a linear function of the image brightness.

    It consists of box filters, so its time does not depend on the radius. Windows end at the borders. At an edge the
    result can exceed the range of the scores.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        image: RGB image that guides the filter. Shape ``(H, W, 3)``, uint8.
        radius: Pixels from the centre to each side of a window, from 1 to 500.
        eps: Variance of the brightness (0 to 1) below which a window counts as flat and is averaged, above 0.

    Returns:
        Score map. Shape ``(H, W)``, float32.

    Raises:
        InputError: A parameter is out of range.

    Source: He et al., Guided Image Filtering (TPAMI 2013), eq. 5, 6 and 8.
    """
    if not 1 <= radius <= 500 or not 0 < eps < np.inf:
        raise InputError(
            f"guided: expected radius from 1 to 500 and eps above 0, found {radius} and {eps}; correct them"
        )
    size = (2 * radius + 1, 2 * radius + 1)
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    values = score.astype(np.float64)

    def box(each: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return cv2.boxFilter(each, cv2.CV_64F, size, normalize=False, borderType=cv2.BORDER_CONSTANT)

    count = box(np.ones_like(guide))
    mean, mean_score = box(guide) / count, box(values) / count
    slope = (box(guide * values) / count - mean * mean_score) / (np.maximum(box(guide**2) / count - mean**2, 0) + eps)
    offset = mean_score - slope * mean
    limits = np.finfo(np.float32)
    return ((box(slope) * guide + box(offset)) / count).clip(limits.min, limits.max).astype(np.float32)
