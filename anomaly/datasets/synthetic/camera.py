"""A pinhole camera above a road that may bend.

Places are given in road coordinates ``(s, y, z)`` in metres: ``s`` to the right of the road's centre line,
``y`` above the ground, ``z`` ahead of the camera. The centre line bends by ``bend * z**2`` to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEAREST = 1.0
"""Points nearer than this many metres are projected as if they were at this distance."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Camera:
    """Where the picture is taken from.

    Args:
        size: ``(H, W)`` of the picture in pixels.
        focal: Focal length in pixels.
        height: Metres above the road.
        horizon: Row of the horizon.
        centre: Column of the direction of the road at the camera.
        bend: Curvature term of the centre line, per metre; positive bends to the right.
        offset: Metres of the camera to the right of the centre line.
    """

    size: tuple[int, int]
    focal: float
    height: float
    horizon: float
    centre: float
    bend: float
    offset: float

    def project(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Project road coordinates to pixels.

        Shape:
            points: ``(..., 3)`` of ``(s, y, z)`` in metres. Returns ``(..., 2)`` of ``(column, row)``.
        """
        place = np.asarray(points, dtype=np.float64)
        z = np.maximum(place[..., 2], NEAREST)
        scale = self.focal / z
        pixels = np.empty((*place.shape[:-1], 2))
        pixels[..., 0] = self.centre + (place[..., 0] - self.offset + self.bend * z * z) * scale
        pixels[..., 1] = self.horizon + (self.height - place[..., 1]) * scale
        return pixels

    def board(self, s: float, z: float) -> tuple[float, float, float]:
        """The picture of an upright plane that faces the camera at ``(s, z)``.

        Returns:
            ``(column, row, scale)``: the pixel of its foot and the pixels per metre on it.
        """
        scale = self.focal / max(z, NEAREST)
        return (
            self.centre + (s - self.offset + self.bend * z * z) * scale,
            self.horizon + self.height * scale,
            scale,
        )

    def ground(self) -> tuple[int, Floats, Floats]:
        """Road coordinates of every pixel below the horizon.

        Returns:
            ``(top, s, z)``: the first row of the ground, ``s`` ``(H - top, W)`` and ``z`` ``(H - top, 1)``.
        """
        height, width = self.size
        top = int(np.floor(self.horizon)) + 1
        below = np.arange(top, height, dtype=np.float32)[:, None] + 0.5 - np.float32(self.horizon)
        z = np.minimum(self.focal * self.height / below, 2000.0).astype(np.float32)
        column = np.arange(width, dtype=np.float32)[None] + 0.5 - np.float32(self.centre)
        s = column * (z / self.focal) + (self.offset - self.bend * z * z)
        return top, s.astype(np.float32), z

    def eye(self, z: float) -> npt.NDArray[np.float64]:
        """The camera's place as seen from an object ``z`` metres ahead, with the road's bend undone."""
        return np.array([self.offset - self.bend * z * z, self.height, 0.0])


def sample_camera(rng: np.random.Generator, size: tuple[int, int], lane: float) -> Camera:
    """Draw a camera that drives in the lane whose centre is ``lane`` metres right of the centre line."""
    height, width = size
    return Camera(
        size=size,
        focal=width * rng.uniform(0.68, 1.0),
        height=rng.uniform(1.25, 2.3),
        horizon=height * rng.uniform(0.36, 0.53),
        centre=width * rng.uniform(0.4, 0.6),
        bend=float(rng.normal(0.0, 0.0007)),
        offset=lane + rng.uniform(-0.5, 0.5),
    )
