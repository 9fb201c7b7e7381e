"""A pinhole camera above a road that may bend.

Positions are given in road coordinates ``(s, y, z)`` in metres: ``s`` to the right of the road's centre line, ``y``
above the ground, ``z`` ahead of the camera. The centre line bends by ``bend * z**2`` to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEAREST = 1.0
"""Distance in metres at which nearer points are projected."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Camera:
    """Position and optics of the camera.

    Args:
        size: Height and width of the image in pixels.
        focal: Focal length in pixels.
        height: Height above the road in metres.
        horizon: Row of the horizon.
        centre: Column that corresponds to the direction of the road at the camera.
        bend: Curvature of the centre line, per metre; positive bends to the right.
        offset: Distance of the camera from the centre line in metres, positive to the right.
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

        Args:
            points: Points ``(s, y, z)`` in metres. Shape ``(..., 3)``.

        Returns:
            Pixels ``(column, row)``. Shape ``(..., 2)``.
        """
        place = np.asarray(points, dtype=np.float64)
        z = np.maximum(place[..., 2], NEAREST)
        scale = self.focal / z
        pixels = np.empty((*place.shape[:-1], 2))
        pixels[..., 0] = self.centre + (place[..., 0] - self.offset + self.bend * z * z) * scale
        pixels[..., 1] = self.horizon + (self.height - place[..., 1]) * scale
        return pixels

    def board(self, s: float, z: float) -> tuple[float, float, float]:
        """Project an upright plane that faces the camera at ``(s, z)``.

        Returns:
            Column and row of its foot, and its scale in pixels per metre.
        """
        scale = self.focal / max(z, NEAREST)
        return (
            self.centre + (s - self.offset + self.bend * z * z) * scale,
            self.horizon + self.height * scale,
            scale,
        )

    def ground(self) -> tuple[int, Floats, Floats]:
        """Compute the road coordinates of every pixel below the horizon.

        Returns:
            First row of the ground, ``s`` of shape ``(H - top, W)`` and ``z`` of shape ``(H - top, 1)``.
        """
        height, width = self.size
        top = int(np.floor(self.horizon)) + 1
        below = np.arange(top, height, dtype=np.float32)[:, None] + 0.5 - np.float32(self.horizon)
        z = np.minimum(self.focal * self.height / below, 2000.0).astype(np.float32)
        column = np.arange(width, dtype=np.float32)[None] + 0.5 - np.float32(self.centre)
        s = column * (z / self.focal) + (self.offset - self.bend * z * z)
        return top, s.astype(np.float32), z

    def eye(self, z: float) -> npt.NDArray[np.float64]:
        """Return the position of the camera relative to an object ``z`` metres ahead, without the road's bend."""
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
