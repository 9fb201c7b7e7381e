"""Cars: a side view extruded across the car's width, seen from the position of the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.canvas import Canvas, Pen
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.item import Item, Points, disc, shadow_of
from anomaly.datasets.synthetic.light import Light

_PAINTS = np.array(
    [
        (232, 232, 230), (190, 194, 198), (120, 124, 130), (46, 48, 52), (30, 30, 34), (150, 28, 30),
        (32, 58, 120), (70, 110, 160), (205, 200, 185), (60, 84, 66), (196, 120, 40), (224, 192, 60),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class _Body:
    """Side view of a car with its front to the right; lengths are in metres.

    Args:
        outline: Points (along, up, share of width) from the rear bumper over the roof to the front bumper. Shape
            ``(N, 3)``.
        glass: Strips between consecutive points that are windows.
        lamps: Strips with the rear and the front lamps.
        panes: Side windows, as polygons of (along, up).
        half_width: Half of the width.
        axles: Positions of the wheels along the car.
        wheel: Radius of a wheel.
    """

    outline: Points
    glass: tuple[int, ...]
    lamps: tuple[int, int]
    panes: tuple[tuple[tuple[float, float], ...], ...]
    half_width: float
    axles: tuple[float, float]
    wheel: float

    @property
    def height(self) -> float:
        return float(self.outline[:, 1].max())


_SALOON = _Body(
    np.array([(-2.15, 0.28, 0.93), (-2.25, 0.55, 0.96), (-2.2, 0.92, 0.92), (-1.65, 1.0, 0.9),
              (-1.0, 1.38, 0.72), (-0.4, 1.45, 0.7), (0.25, 1.4, 0.72), (1.05, 0.96, 0.88),
              (1.95, 0.82, 0.88), (2.2, 0.62, 0.9), (2.22, 0.28, 0.9)]),
    (3, 6), (1, 8),
    (((-1.42, 0.98), (-0.98, 1.3), (-0.45, 1.36), (-0.42, 0.97)),
     ((-0.32, 0.97), (-0.36, 1.36), (0.2, 1.32), (0.8, 0.95))),
    0.89, (-1.35, 1.35), 0.32,
)  # fmt: skip
_HATCH = _Body(
    np.array([(-1.85, 0.28, 0.93), (-1.95, 0.55, 0.96), (-1.93, 0.92, 0.93), (-1.6, 1.42, 0.74),
              (-0.6, 1.52, 0.72), (0.15, 1.47, 0.74), (0.95, 1.0, 0.9), (1.65, 0.86, 0.9),
              (1.92, 0.62, 0.9), (1.93, 0.28, 0.9)]),
    (2, 5), (1, 7),
    (((-1.62, 0.98), (-1.42, 1.36), (-0.6, 1.42), (-0.55, 0.98)),
     ((-0.45, 0.98), (-0.5, 1.42), (0.1, 1.38), (0.72, 0.98))),
    0.86, (-1.2, 1.25), 0.31,
)  # fmt: skip
_OFFROAD = _Body(
    np.array([(-2.1, 0.35, 0.95), (-2.2, 0.65, 0.97), (-2.18, 1.08, 0.95), (-1.95, 1.66, 0.8),
              (-0.8, 1.74, 0.78), (0.3, 1.68, 0.8), (1.0, 1.14, 0.92), (1.95, 1.02, 0.92),
              (2.18, 0.75, 0.92), (2.2, 0.35, 0.92)]),
    (2, 5), (1, 7),
    (((-1.9, 1.14), (-1.72, 1.58), (-0.75, 1.63), (-0.7, 1.13)),
     ((-0.6, 1.13), (-0.65, 1.63), (0.25, 1.58), (0.78, 1.12))),
    0.94, (-1.35, 1.35), 0.38,
)  # fmt: skip
_VAN = _Body(
    np.array([(-2.5, 0.35, 0.97), (-2.58, 0.6, 0.98), (-2.56, 1.2, 0.97), (-2.48, 2.0, 0.88),
              (-1.0, 2.12, 0.86), (0.9, 2.08, 0.86), (1.65, 1.25, 0.92), (2.25, 1.02, 0.92),
              (2.45, 0.7, 0.93), (2.46, 0.35, 0.93)]),
    (2, 5), (1, 7),
    (((0.3, 1.22), (0.3, 1.85), (0.85, 1.85), (1.4, 1.22)),),
    1.0, (-1.6, 1.6), 0.36,
)  # fmt: skip
_BODIES = (_SALOON, _HATCH, _OFFROAD, _VAN)


@dataclass(frozen=True)
class _Car:
    body: _Body
    s: float
    z: float
    heading: float
    paint: npt.NDArray[np.float64]

    def place(self, along: npt.ArrayLike, up: npt.ArrayLike, right: npt.ArrayLike) -> Points:
        """Convert positions in the car's axes to road coordinates. Shape ``(..., 3)``."""
        along, right = np.asarray(along), np.asarray(right)
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        s = self.s + along * sin + right * cos
        points = np.empty((*s.shape, 3))
        points[..., 0] = s
        points[..., 1] = up
        points[..., 2] = self.z + along * cos - right * sin
        return points

    def turn(self, along: npt.ArrayLike, up: npt.ArrayLike, right: npt.ArrayLike) -> Points:
        """Convert a direction in the car's axes to road coordinates. Shape ``(3, ...)``."""
        along, up, right = np.asarray(along), np.asarray(up), np.asarray(right)
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        return np.array([along * sin + right * cos, up, along * cos - right * sin])

    def draw(self, canvas: Canvas) -> None:
        pen = canvas.pen(self.z, Class.CAR)
        eye = canvas.camera.eye(self.z)
        close = canvas.camera.board(self.s, self.z)[2] > 6
        self._under(pen)
        self._strips(pen, eye, close)
        for side in (-1.0, 1.0):
            if (eye - self.place(0, 0.6, side * self.body.half_width)) @ self.turn(0, 0, side) > 0:
                self._flank(pen, side, close)

    def _under(self, pen: Pen) -> None:
        project, body = pen.canvas.camera.project, self.body
        axle = np.array(body.axles)[:, None, None]
        right = body.half_width * np.array([(-0.94, -0.68, -0.68, -0.94), (0.68, 0.94, 0.94, 0.68)])
        for wheel in project(self.place(axle, np.array([0, 0, 0.5, 0.5]), right)).reshape(4, 4, 2):
            pen.fill(wheel, (22, 22, 24))

    def _strips(self, pen: Pen, eye: Points, close: bool) -> None:
        outline, light = self.body.outline, pen.canvas.light
        rims = self.place(outline[:, 0], outline[:, 1], np.array([[-1], [1]]) * self.body.half_width * outline[:, 2])
        left, right = pen.canvas.camera.project(rims)
        middles = (rims[:, :-1] + rims[:, 1:]).mean(0) / 2
        step = np.diff(outline, axis=0)
        normals = self.turn(-step[:, 1], step[:, 0], np.zeros(len(step))).T
        towards = eye - middles
        seen = (towards * normals).sum(1) > 0
        for i in np.argsort(-(towards**2).sum(1)):
            if not seen[i]:
                continue
            corners = np.array([left[i], right[i], right[i + 1], left[i + 1]])
            normal = normals[i].tolist()
            sky = max(0.0, normal[1] / float(np.hypot(*step[i, :2])))
            pen.fill(corners, light.shade(self.paint, normal) * (1 - 0.22 * sky) + 0.22 * sky * light.skyline)
            if not close and i not in self.body.glass:
                continue
            if i in self.body.glass:
                pen.detail([_part(corners, 0.06, 0.94, 0.08, 0.92)], _glass(light, sky))
                if close:
                    pen.detail([_part(corners, 0.1, 0.5, 0.15, 0.5)], _glass(light, sky) * 0.82)
            elif i == 0 or i == len(outline) - 2:
                pen.detail([_part(corners, 0.04, 0.96, 0.0, 0.5)], light.shade((40, 40, 42)))
            if i in self.body.lamps:
                self._lamps(pen, corners, rear=i == self.body.lamps[0])

    def _lamps(self, pen: Pen, corners: Points, rear: bool) -> None:
        light = pen.canvas.light
        if rear:
            glow = np.array([235.0, 30, 24]) if light.lamps else light.shade((175, 24, 22)) + 25
            pen.detail([_part(corners, 0.03, 0.16, 0.3, 0.95), _part(corners, 0.84, 0.97, 0.3, 0.95)], glow)
            pen.detail([_part(corners, 0.36, 0.64, 0.2, 0.52)], light.shade((228, 228, 215)))
            return
        glow = np.array([255.0, 250, 225]) if light.lamps else light.shade((225, 228, 232)) + 20
        pen.detail([_part(corners, 0.03, 0.24, 0.2, 0.85), _part(corners, 0.76, 0.97, 0.2, 0.85)], glow)
        pen.detail([_part(corners, 0.3, 0.7, 0.35, 0.95)], light.shade((30, 30, 32)))

    def _flank(self, pen: Pen, side: float, close: bool) -> None:
        body, light, project = self.body, pen.canvas.light, pen.canvas.camera.project
        half = side * body.half_width
        outline = body.outline
        normal = self.turn(0, 0.12, side)
        paint = light.shade(self.paint, normal)
        pen.fill(project(self.place(outline[:, 0], outline[:, 1], half * outline[:, 2])), paint)
        belt = outline[2, 1]
        ends = [outline[1, 0] + 0.05, outline[-2, 0] - 0.05]
        sill = self.place([*ends, ends[1], ends[0]], [0.28, 0.28, 0.5, 0.5], half * 0.93)
        pen.detail([project(sill)], paint * 0.72)
        top = body.height

        def on_side(points: npt.ArrayLike) -> Points:
            x, y = np.asarray(points, dtype=np.float64).T
            return project(self.place(x, y, half * np.interp(y, [0.3, belt, top], [0.95, 0.92, 0.72])))

        pen.detail([on_side(pane) for pane in body.panes], _glass(light, 0.15))
        if close:
            seams = [on_side([(x, 0.5), (x + 0.03, 0.5), (x + 0.03, belt), (x, belt)]) for x in (-0.9, -0.38, 0.75)]
            pen.detail(seams, paint * 0.75)
        hub = light.shade((150, 152, 156), normal)
        rims = ((1.18, paint * 0.35), (1.0, (24, 24, 26)), (0.58, hub))
        for axle in body.axles:
            for radius, colour in rims if close else rims[1:2]:
                rim = disc((axle, body.wheel), body.wheel * radius, 18)
                pen.fill(project(self.place(rim[:, 0], np.maximum(rim[:, 1], 0), half * 0.96)), colour)


def _glass(light: Light, sky: float) -> npt.NDArray[np.float64]:
    return np.array([34.0, 40, 48]) * 0.9 + light.skyline * (0.1 + 0.3 * sky)


def _part(corners: Points, left: float, right: float, low: float, high: float) -> Points:
    """Return a rectangle inside a quadrilateral with the corners low left, low right, high right, high left."""
    (a, b, c, d) = corners
    u = np.array([left, right, right, left])[:, None]
    v = np.array([low, low, high, high])[:, None]
    return (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * c)


def make_car(rng: np.random.Generator, s: float, z: float, heading: float, light: Light) -> Item:
    """Make a car at ``(s, z)``; ``heading`` is in radians to the right, 0 away from the camera, pi towards it."""
    body = _BODIES[rng.choice(len(_BODIES), p=[0.34, 0.34, 0.22, 0.1])]
    paint = np.clip(_PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.85, 1.1) + rng.uniform(-6, 6, 3), 8, 245)
    car = _Car(body, s, z, heading, paint)
    ends = [body.outline[0, 0], body.outline[-1, 0], body.outline[-1, 0], body.outline[0, 0]]
    base = car.place(ends, 0.0, np.array([1, 1, -1, -1]) * body.half_width)[:, [0, 2]]
    half = float(np.ptp(base[:, 0])) / 2
    reach = (max(float(base[:, 1].min()), 1.0), float(base[:, 1].max()))
    shadow = shadow_of(base, body.height * 0.9, light)
    return Item(s, z, half, body.height, car.draw, [shadow], [base], ends=reach)
