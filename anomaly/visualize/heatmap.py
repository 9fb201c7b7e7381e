"""ScoreMap maps as colours: one fixed scale per score, so that two pictures can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image, ScoreMap
from anomaly.visualize.arrays import as_score, as_score_map

INFERNO: npt.NDArray[np.uint8] = (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Heatmap:
    """Colours a score by the perceptually uniform ``inferno`` map: dark = known, bright = anomalous.

    Args:
        low: Scores up to this get the first colour.
        high: Scores from this on get the last.

    Raises:
        InputError: ``high`` is not above ``low``, or one is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise InputError(f"expected a colour scale from a score to a higher one, found {self.low} to {self.high}")

    @classmethod
    def of(cls, scores: Sequence[ScoreMap]) -> Heatmap:
        """The scale from the 1st to the 99th percentile of all values of ``scores`` together.

        A constant score has no range; its scale is then one unit wide, starting at the constant.

        Shape:
            ``scores``: any number (>= 1) of ``(H, W)`` arrays, sizes may differ.

        Raises:
            InputError: There is none, or a value is not finite.
        """
        if not len(scores):
            raise InputError("heatmap: expected at least one score map to find a scale for, found none")
        low, high = np.percentile(np.concatenate([as_score(s, "heatmap").ravel() for s in scores]), (1, 99)).tolist()
        return cls(low, high if high > low else low + 1.0)

    def draw(self, score: ScoreMap) -> Image:
        """Colour a score map. Shape: ``(H, W)``, finite -> ``(H, W, 3)``, RGB uint8.

        Raises:
            InputError: It is no such map.
        """
        index = np.clip((as_score_map(score, "heatmap") - self.low) * (255.0 / (self.high - self.low)), 0, 255)
        return INFERNO[np.rint(index).astype(np.uint8)]
