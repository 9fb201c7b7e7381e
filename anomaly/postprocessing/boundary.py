"""Boundary suppression: lowers the high scores along boundaries between known classes."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ScoreMap


def boundary(score: ScoreMap, classes: npt.NDArray[np.integer], *, width: int = 8) -> ScoreMap:
    """Replace scores along boundaries of the predicted classes by those of their surroundings, iteratively.

    The boundary starts ``width`` pixels wide, half of them on each side of a change of class. It gets 2 pixels narrower
    in every iteration, down to 2. In each iteration, a boundary pixel gets the mean of the pixels in its 3x3
    neighbourhood that are outside the boundary; it keeps its score if there are none. So the surroundings grow by one
    pixel per iteration, from the outer edge of the boundary to its middle.

    The default follows the paper: width 8, narrower by 2 in each of 4 iterations (the published code counts one side,
    4). The published code also counts pixels with a diagonal neighbour of a lower class index as boundary, and repeats
    the outermost pixels of the image. Here neighbours share a side, and means use only pixels inside the image.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        classes: Class index that the network predicts for each pixel. Shape ``(H, W)``.
        width: Width of the boundary in pixels, even, from 2 to 200.

    Returns:
        Score map. Shape ``(H, W)``, float32.

    Raises:
        InputError: ``width`` is out of range.

    Source: Jung et al., Standardized Max Logits (ICCV 2021), "iterative boundary suppression".
    """
    if width % 2 or not 2 <= width <= 200:
        raise InputError(f"boundary: expected an even width from 2 to 200 pixels, found {width}; correct it")
    values = score.astype(np.float64)
    distance = _distance_to_change(classes)
    for reach in range(width // 2, 0, -1):
        outside = (distance > reach).astype(np.float64)
        total, count = _sum_3x3(values * outside), _sum_3x3(outside)
        reached = (outside == 0) & (count > 0)
        values[reached] = total[reached] / count[reached]
    return values.astype(np.float32)


def _sum_3x3(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return cv2.sepFilter2D(values, cv2.CV_64F, np.ones(3), np.ones(3), borderType=cv2.BORDER_CONSTANT)


def _distance_to_change(classes: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Compute the city-block distance to the nearest pixel beside another class, from 1. Shape ``(H, W)``."""
    same = np.ones(classes.shape, np.uint8)
    across, down = classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
    same[:, 1:][across] = same[:, :-1][across] = 0
    same[1:][down] = same[:-1][down] = 0
    if same.all():
        return np.full(classes.shape, np.inf, np.float32)
    return cv2.distanceTransform(same, cv2.DIST_L1, 3) + np.float32(1)
