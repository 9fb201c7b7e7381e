"""What both ways of measuring give: figures with what bounds them, and what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.thinned import Curve


class FrameCounts(NamedTuple):
    """Numbers of pixels of one frame."""

    known: int
    anomaly: int
    ignored: int

    @property
    def defined(self) -> bool:
        """Whether figures of this frame alone have a value."""
        return bool(self.known and self.anomaly)


Interval = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """Figures of a score.

    Args:
        values: Over all pixels together, by name.
        bounds: What is certain to hold their exact values; empty where the figures are exact themselves.
        per_frame: Figures of each frame, by its id.
        per_frame_bounds: As ``bounds``.
        curve: For plots.
    """

    values: dict[str, float]
    bounds: dict[str, Interval]
    per_frame: dict[str, dict[str, float]]
    per_frame_bounds: dict[str, dict[str, Interval]]
    curve: Curve


def check_stored(scores: npt.NDArray[Any]) -> None:
    """Raise ``ValueError`` unless an array from a file is such as :meth:`PixelMetrics.update` makes of scores."""
    if scores.dtype not in (np.float32, np.float64) or scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"scores of type {scores.dtype} and shape {scores.shape} that should all be finite floats")
