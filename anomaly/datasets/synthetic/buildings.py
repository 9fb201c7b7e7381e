"""Houses along the street: boxes with windows, shop fronts, doors and roofs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.camera import Camera
from anomaly.datasets.synthetic.canvas import Canvas, Pen
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.item import Item, Points, rectangle, shadow_of
from anomaly.datasets.synthetic.light import Colour, Light
from anomaly.datasets.synthetic.street import Side

_WALLS = np.array(
    [
        (168, 96, 76), (150, 82, 66), (205, 186, 152), (222, 212, 192), (186, 178, 168), (146, 148, 152),
        (214, 190, 140), (196, 160, 130), (230, 226, 218), (120, 108, 100), (176, 150, 120), (160, 172, 178),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class _House:
    """A box from ``near`` to ``far`` along the street and from ``wall`` to ``back`` (signed) beside it.

    With ``party``, its near wall adjoins the previous house and has no windows. ``panes`` selects the look of windows.
    """

    near: float
    far: float
    wall: float
    back: float
    height: float
    storey: float
    colour: Colour
    trim: Colour
    glass: Colour
    shop: bool
    party: bool
    gable: float
    bay: float
    window: tuple[float, float]
    panes: Points

    def draw(self, canvas: Canvas) -> None:
        pen = canvas.pen(self.near, Class.BUILDING)
        side = np.array([-np.sign(self.wall), 0.0, 0.0])
        if self.near > 1.5:
            front = np.array([(self.wall, 0, self.near), (self.back, 0, self.near)], dtype=np.float64)
            self._wall(pen, front, np.array([0.0, 0.0, -1.0]), blind=self.party)
        along = np.array([(self.wall, 0, self.near), (self.wall, 0, self.far)], dtype=np.float64)
        if side[0] * (canvas.camera.eye(self.near)[0] - self.wall) > 0:
            if self.gable:
                self._roof(pen)
            self._wall(pen, along, side, shop=self.shop)

    def _roof(self, pen: Pen) -> None:
        middle = (self.wall + self.back) / 2
        eaves = [(self.wall, self.height, self.near), (self.wall, self.height, self.far)]
        ridge = [(middle, self.height + self.gable, self.far), (middle, self.height + self.gable, self.near)]
        light, project = pen.canvas.light, pen.canvas.camera.project
        tile = np.array([128, 70, 52]) if self.trim[0] > 150 else np.array([88, 84, 88])
        pen.fill(project(eaves + ridge), light.shade(tile, (-np.sign(self.wall), 1.0, 0.0)))
        end = [ridge[1], eaves[0], (self.back, self.height, self.near)]
        pen.fill(project(end), light.shade(self.colour * 0.95, (0, 0, -1)))

    def _wall(self, pen: Pen, foot: Points, normal: Points, shop: bool = False, blind: bool = False) -> None:
        camera, light = pen.canvas.camera, pen.canvas.light
        panel = _Panel(camera, foot)
        if not panel.seen:
            return
        colour = light.shade(self.colour, normal)
        pen.fill(panel.quads(0, 1, 0, self.height)[0], colour)
        if blind:
            return
        pen.detail(panel.quads(0, 1, 0, 0.5), colour * 0.8)
        pen.detail(panel.quads(0, 1, self.height - 0.35, self.height), light.shade(self.trim, normal))
        columns = max(1, int(panel.length / self.bay))
        pitch = panel.length / columns
        if panel.pixels / columns < 2.5:
            return
        starts = ((np.arange(columns) + 0.5) * pitch - self.window[0] / 2) / panel.length
        ends = starts + self.window[0] / panel.length
        floors = np.arange(1 if shop else 0, int(self.height / self.storey))
        bottoms = floors * self.storey + 0.9
        a, b, low = np.tile(starts, len(floors)), np.tile(ends, len(floors)), np.repeat(bottoms, columns)
        frame = 0.12 / panel.length
        high = low + self.window[1]
        if panel.pixels / columns > 9:
            pen.detail(panel.quads(a - frame, b + frame, low - 0.12, high + 0.12), light.shade(self.trim, normal))
        self._glaze(pen, panel.quads(a, b, low, high))
        if panel.pixels / columns > 14:
            mid = (a + b) / 2
            pen.detail(panel.quads(mid - frame / 4, mid + frame / 4, low, high), light.shade(self.trim, normal))
        if shop:
            self._shop(pen, panel, columns, normal)

    def _glaze(self, pen: Pen, quads: Points) -> None:
        light = pen.canvas.light
        pick = np.resize(self.panes, len(quads))
        reflect = self.glass * 0.6 + light.skyline * 0.28
        pen.detail(quads[pick < 0.55], reflect)
        pen.detail(quads[(pick >= 0.55) & (pick < 0.8)], reflect * 0.65)
        lit = np.array([250.0, 215, 140]) if light.lamps else light.shade((190, 182, 170)) * 0.7
        pen.detail(quads[pick >= 0.8], lit)

    def _shop(self, pen: Pen, panel: _Panel, columns: int, normal: Points) -> None:
        light = pen.canvas.light
        starts = (np.arange(columns) + 0.08) / columns
        ends = (np.arange(columns) + 0.92) / columns
        pen.detail(panel.quads(starts, ends, 0.5, self.storey - 0.8), self.glass * 0.5 + light.skyline * 0.2)
        sign = np.roll(self.trim, 1) * (0.9, 0.6, 0.5)
        pen.detail(panel.quads(0.02, 0.98, self.storey - 0.7, self.storey - 0.1), light.shade(sign, normal))


class _Panel:
    """An upright wall over a line between two ground points; positions are (share of length, metres up)."""

    def __init__(self, camera: Camera, foot: Points) -> None:
        self.camera = camera
        self.foot = foot
        self.length = float(np.linalg.norm(foot[1] - foot[0]))
        ends = camera.project(foot)
        self.pixels = float(abs(ends[1, 0] - ends[0, 0]))
        self.seen = bool(ends[:, 0].max() > 0 and ends[:, 0].min() < camera.size[1])

    def quads(self, start: npt.ArrayLike, end: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> Points:
        """Project rectangles on the wall to pixels. Shape ``(N, 4, 2)``."""
        share = np.empty((np.size(start), 4, 1))
        share[:, ::3, 0] = np.reshape(start, (-1, 1))
        share[:, 1:3, 0] = np.reshape(end, (-1, 1))
        points = self.foot[0] + share * (self.foot[1] - self.foot[0])
        points[:, :2, 1] = np.reshape(low, (-1, 1))
        points[:, 2:, 1] = np.reshape(high, (-1, 1))
        return self.camera.project(points)


def sample_buildings(rng: np.random.Generator, side: Side, light: Light) -> list[Item]:
    """Draw the row of houses on one side: closed in town, with gaps in a suburb, none in a park."""
    items: list[Item] = []
    if side.style == "park":
        return items
    town = side.style == "town"
    z = rng.uniform(-6, 4)
    gap = 1.0
    while z < 170:
        length = rng.uniform(9, 24) if town else rng.uniform(8, 14)
        far = z + length
        if far > 3:
            items.append(_item(_sample_house(rng, side, max(z, 1.0), far, party=gap == 0.0), light))
        gap = (rng.uniform(3, 9) if rng.random() < 0.15 else 0.0) if town else rng.uniform(3, 14)
        z = far + gap
    return items


def _sample_house(rng: np.random.Generator, side: Side, near: float, far: float, party: bool) -> _House:
    town = side.style == "town"
    setback = 0.0 if town else rng.uniform(0, 2)
    wall = side.sign * (side.wall + setback)
    storey = rng.uniform(2.9, 3.5)
    storeys = rng.integers(2, 7) if town else rng.integers(1, 3)
    return _House(
        near=near,
        far=far,
        wall=wall,
        back=wall + side.sign * rng.uniform(8, 14),
        height=storeys * storey + 0.6,
        storey=storey,
        colour=np.clip(_WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.85, 1.1) + rng.uniform(-10, 10, 3), 0, 255),
        trim=np.full(3, rng.choice([225.0, 205.0, 120.0, 70.0])) + rng.uniform(-10, 10, 3),
        glass=np.array([70, 84, 100]) * rng.uniform(0.5, 1.1),
        shop=bool(town and rng.random() < 0.55),
        party=party,
        gable=0.0 if town and rng.random() < 0.7 else rng.uniform(1.8, 3.5),
        bay=rng.uniform(2.0, 3.4),
        window=(rng.uniform(0.9, 1.5), rng.uniform(1.2, 1.8)),
        panes=rng.random(59),
    )


def _item(house: _House, light: Light) -> Item:
    middle, depth = (house.wall + house.back) / 2, abs(house.back - house.wall) / 2
    base = rectangle(middle, (house.near + house.far) / 2, depth, (house.far - house.near) / 2)
    return Item(
        # Sorted by its far end, because objects beside it are nearer to the road and are painted over it.
        s=middle, z=house.far, half_width=depth, height=house.height, draw=house.draw,
        shadows=[shadow_of(base, house.height, light)], ends=(house.near, house.far),
    )  # fmt: skip
