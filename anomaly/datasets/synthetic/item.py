"""Objects of a scene, and the flat shapes that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.camera import Camera
from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.light import Light

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """An object that stands on the ground; lengths are in metres.

    Args:
        s: Distance to the right of the centre line.
        z: Distance ahead; objects are painted from the largest to the smallest.
        half_width: Half of its width across the view.
        height: Height.
        draw: Function that paints it.
        shadows: Ground polygons ``(N, 2)`` where it hides the sun.
        contacts: Ground polygons ``(N, 2)`` that it stands on.
        ends: Distances of its nearest and farthest end, if they differ from ``z``; at least 1.
    """

    s: float
    z: float
    half_width: float
    height: float
    draw: Callable[[Canvas], None]
    shadows: list[Points] = field(default_factory=list)
    contacts: list[Points] = field(default_factory=list)
    ends: tuple[float, float] | None = None

    @property
    def near(self) -> float:
        """Distance of its nearest end in metres."""
        return self.ends[0] if self.ends else self.z

    def box(self, camera: Camera) -> tuple[float, float, float, float]:
        """Compute the left, top, right and bottom of the object in the image, in pixels."""
        boxes = []
        for z in self.ends or (self.z,):
            column, row, scale = camera.board(self.s, z)
            half = self.half_width * scale
            boxes.append((column - half, row - self.height * scale, column + half, row))
        left, top, right, bottom = zip(*boxes, strict=True)
        return min(left), min(top), max(right), max(bottom)


def rectangle(s: float, z: float, half_s: float, half_z: float) -> Points:
    """Return a ground rectangle around ``(s, z)``. Shape ``(4, 2)``."""
    return np.array(
        [
            (s - half_s, z - half_z),
            (s + half_s, z - half_z),
            (s + half_s, z + half_z),
            (s - half_s, z + half_z),
        ]
    )


def shadow_of(base: Points, height: float, light: Light, bottom: float = 0.0) -> Points:
    """Compute the ground shadow of an upright prism over ``base``, from ``bottom`` to ``height``. Shape ``(N, 2)``."""
    both = np.concatenate([base + light.reach(bottom), base + light.reach(height)])
    return cv2.convexHull(both.astype(np.float32))[:, 0].astype(np.float64)


def _circle(corners: int, start: float = 0.0, end: float = 2 * np.pi) -> Points:
    turn = np.linspace(start, end, corners, endpoint=end - start < 6)
    return np.column_stack([np.cos(turn), np.sin(turn)])


_CIRCLES = {corners: _circle(corners) for corners in (6, 8, 10, 14, 18)}
_BACK_HALF = _circle(5, np.pi / 2, 3 * np.pi / 2)


def disc(centre: tuple[float, float], radius: float, corners: int = 14) -> Points:
    """Return the outline of a regular polygon with 6, 8, 10, 14 or 18 corners. Shape ``(corners, 2)``."""
    return _CIRCLES[corners] * radius + centre


def capsule(p: tuple[float, float], q: tuple[float, float], start: float, end: float) -> Points:
    """Return the outline of a limb from ``p`` to ``q`` with radii ``start`` and ``end``. Shape ``(10, 2)``."""
    right, up = q[0] - p[0], q[1] - p[1]
    length = max(float(np.hypot(right, up)), 1e-9)
    cap = _BACK_HALF @ np.array([(right, up), (-up, right)]) / length
    return np.concatenate([cap * start + p, cap * -end + q])
