"""Score maps as colours, with a fixed scale per score, so that pictures can be compared."""

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
    """Colours a score map with the perceptually uniform ``inferno`` palette: dark = known, bright = anomalous.

    Args:
        low: Scores up to this value get the first colour.
        high: Scores from this value on get the last colour.

    Raises:
        InputError: ``high`` is not above ``low``, or one of them is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise InputError(
                f"heatmap: expected a colour scale from a score to a higher one, found {self.low} to {self.high}; "
                "correct the limits"
            )

    @classmethod
    def of(cls, scores: Sequence[ScoreMap]) -> Heatmap:
        """Make a heatmap with a scale from the 1st to the 99th percentile of all values together.

        For a constant score the scale starts at the constant and is one unit wide.

        Args:
            scores: At least one score map. Shape ``(H, W)`` each; sizes may differ.

        Raises:
            InputError: ``scores`` is empty, or a value is not finite.
        """
        if not len(scores):
            raise InputError("heatmap: expected at least one score map for the scale, found none; pass score maps")
        low, high = np.percentile(np.concatenate([as_score(s, "heatmap").ravel() for s in scores]), (1, 99)).tolist()
        return cls(low, high if high > low else low + 1.0)

    def draw(self, score: ScoreMap) -> Image:
        """Colour a score map.

        Args:
            score: Score map, finite. Shape ``(H, W)``.

        Returns:
            RGB image. Shape ``(H, W, 3)``, uint8.

        Raises:
            InputError: ``score`` is not a finite map.
        """
        index = np.clip((as_score_map(score, "heatmap") - self.low) * (255.0 / (self.high - self.low)), 0, 255)
        return INFERNO[np.rint(index).astype(np.uint8)]
