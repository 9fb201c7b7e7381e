"""Score maps as colours: one fixed scale per score, so that two pictures can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt

from anomaly.labels import Image, Score

INFERNO: npt.NDArray[np.uint8] = (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def robust_limits(scores: Sequence[Score]) -> tuple[float, float]:
    """Ends of a colour scale: the 1st and 99th percentile of all values of ``scores`` together.

    A constant score has no range; its scale is then one unit wide, starting at the constant.

    Shape:
        ``scores``: any number (>= 1) of ``(H, W)`` arrays, sizes may differ.
    """
    low, high = np.percentile(np.concatenate([score.ravel() for score in scores]), (1, 99)).tolist()
    return (low, high) if high > low else (low, low + 1.0)


def heatmap(score: Score, limits: tuple[float, float]) -> Image:
    """Colour a score map by the perceptually uniform ``inferno`` map: dark = known, bright = anomalous.

    Values at or below ``limits[0]`` get the first colour, at or above ``limits[1]`` the last.

    Shape:
        ``score``: ``(H, W)``, finite. Returns ``(H, W, 3)``, RGB uint8.
    """
    low, high = limits
    index = np.clip((score - low) * (255.0 / (high - low)), 0, 255)
    return INFERNO[np.rint(index).astype(np.uint8)]
