"""Boundary suppression: scores are high along the borders of known things, where nothing is odd."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.labels import Score


def boundary(score: Score, classes: npt.NDArray[np.integer], *, width: int = 8, iterations: int = 4) -> Score:
    """Replace scores along boundaries of the predicted classes by those of their surroundings, iteratively.

    In step i of n the boundary is what lies within ``width (n - i) / n`` pixels of a change of class; each of its
    pixels gets the mean of the pixels in its 3x3 neighbourhood that are outside the boundary, and keeps its score where
    there are none. So the surroundings grow inwards, from the outer edge of the boundary to its middle.

    Args:
        score: Shape ``(H, W)``, float32.
        classes: The network's class of every pixel. Shape ``(H, W)``.
        width: Pixels on either side of a change, 1 to 100.
        iterations: n, 1 to ``width``.

    Returns:
        Shape ``(H, W)``, float32.

    Raises:
        InputError: A parameter is out of range.

    Source: Jung et al., Standardized Max Logits (ICCV 2021), "iterative boundary suppression".
    """
    if not 1 <= iterations <= width <= 100:
        raise InputError(
            f"boundary: expected iterations from 1 to width and width at most 100, found {iterations} and {width}"
        )
    score = score.copy()
    distance = _distance_to_change(classes)
    for i in range(iterations):
        inside = (distance > width * (iterations - i) / iterations).astype(np.float32)
        total = cv2.boxFilter(score * inside, cv2.CV_32F, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        count = cv2.boxFilter(inside, cv2.CV_32F, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        reached = (inside == 0) & (count > 0)
        score[reached] = total[reached] / count[reached]
    return score


def _distance_to_change(classes: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """City-block distance to the nearest pixel beside one of another class; 1 for such a pixel itself. ``(H, W)``."""
    same = np.ones(classes.shape, np.uint8)
    across, down = classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
    same[:, 1:][across] = same[:, :-1][across] = 0
    same[1:][down] = same[:-1][down] = 0
    if same.all():
        return np.full(classes.shape, np.inf, np.float32)
    return cv2.distanceTransform(same, cv2.DIST_L1, 3) + np.float32(1)
