"""Results of exact and binned measurement: values, their bounds, and pixel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.thinned import Curve


class FrameCounts(NamedTuple):
    """Pixel counts of one frame."""

    known: int
    anomaly: int
    ignored: int

    @property
    def defined(self) -> bool:
        """Whether metrics of this frame alone are defined: it has known and anomaly pixels."""
        return bool(self.known and self.anomaly)


Bounds = tuple[float, float]
"""Two values between which an exact value is certain to lie."""


@dataclass(frozen=True)
class Measured:
    """Values of all metrics of one score.

    Args:
        values: Values over all pixels together, by metric.
        bounds: Bounds of the exact values, by metric; empty if ``values`` are exact.
        per_frame: Values of each frame, by its id.
        per_frame_bounds: Bounds of the values of each frame, by its id.
        curve: The curve for plots.
    """

    values: dict[str, float]
    bounds: dict[str, Bounds]
    per_frame: dict[str, dict[str, float]]
    per_frame_bounds: dict[str, dict[str, Bounds]]
    curve: Curve


def check_stored(scores: npt.NDArray[Any]) -> None:
    """Raise ``ValueError`` unless an array from a file is a list of finite scores in float32 or float64."""
    if scores.dtype not in (np.float32, np.float64) or scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"expected a list of finite float scores, found type {scores.dtype}, shape {scores.shape}")
