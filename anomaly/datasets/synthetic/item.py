"""What every thing in a scene is to the painter, and the flat shapes that things are made of."""

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
    """A thing that stands on the ground.

    Args:
        s: Metres right of the centre line.
        z: Metres ahead; things are painted from the largest to the smallest.
        half_width: Half its extent across the view, metres.
        height: Metres.
        draw: Paints it.
        shadows: Ground polygons ``(N, 2)`` where it hides the sun.
        contacts: Ground polygons ``(N, 2)`` that it stands on.
        ends: Metres to its nearest and farthest ends, where these are not about ``z``; at least 1.
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
        """Metres to its nearest end."""
        return self.ends[0] if self.ends else self.z

    def box(self, camera: Camera) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the thing in the picture, pixels."""
        boxes = []
        for z in self.ends or (self.z,):
            column, row, scale = camera.board(self.s, z)
            half = self.half_width * scale
            boxes.append((column - half, row - self.height * scale, column + half, row))
        left, top, right, bottom = zip(*boxes, strict=True)
        return min(left), min(top), max(right), max(bottom)


def rectangle(s: float, z: float, half_s: float, half_z: float) -> Points:
    """Ground rectangle about ``(s, z)``, shape ``(4, 2)``."""
    return np.array(
        [
            (s - half_s, z - half_z),
            (s + half_s, z - half_z),
            (s + half_s, z + half_z),
            (s - half_s, z + half_z),
        ]
    )


def shadow_of(base: Points, height: float, light: Light, bottom: float = 0.0) -> Points:
    """Shadow on the ground of an upright prism over ``base``, ``bottom`` to ``height``, shape ``(N, 2)``."""
    both = np.concatenate([base + light.reach(bottom), base + light.reach(height)])
    return cv2.convexHull(both.astype(np.float32))[:, 0].astype(np.float64)


def _circle(corners: int, start: float = 0.0, end: float = 2 * np.pi) -> Points:
    turn = np.linspace(start, end, corners, endpoint=end - start < 6)
    return np.column_stack([np.cos(turn), np.sin(turn)])


_CIRCLES = {corners: _circle(corners) for corners in (6, 8, 10, 14, 18)}
_BACK_HALF = _circle(5, np.pi / 2, 3 * np.pi / 2)


def disc(centre: tuple[float, float], radius: float, corners: int = 14) -> Points:
    """Outline of a regular polygon of 6, 8, 10, 14 or 18 corners, shape ``(corners, 2)``."""
    return _CIRCLES[corners] * radius + centre


def capsule(p: tuple[float, float], q: tuple[float, float], start: float, end: float) -> Points:
    """Outline of a limb from ``p`` to ``q`` with radii ``start`` and ``end``, shape ``(10, 2)``."""
    right, up = q[0] - p[0], q[1] - p[1]
    length = max(float(np.hypot(right, up)), 1e-9)
    cap = _BACK_HALF @ np.array([(right, up), (-up, right)]) / length
    return np.concatenate([cap * start + p, cap * -end + q])
