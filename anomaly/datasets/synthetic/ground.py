"""Road, lane marks, pavements and grass, painted pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.item import Points
from anomaly.datasets.synthetic.light import UP
from anomaly.datasets.synthetic.street import Side, Street
from anomaly.datasets.synthetic.texture import noise_tile, sample_tile

Map = npt.NDArray[np.float32]


class _Ground:
    """The pixels below the horizon, with road coordinates, pixel sizes, colours and labels."""

    def __init__(self, canvas: Canvas) -> None:
        self.light = canvas.light
        self.top, self.s, self.z = canvas.camera.ground()
        self.per_pixel_s = canvas.camera.focal / self.z
        self.pixel_z = self.z**2 / (canvas.camera.focal * canvas.camera.height)
        self.colour: Map = np.zeros((3, *self.s.shape), np.float32)
        self.label: npt.NDArray[np.uint8] = np.zeros(self.s.shape, np.uint8)

    def band(self, start: float, end: float) -> Map:
        """Compute the share of each pixel with ``start <= s < end``. Shape ``(h, W)``."""
        away = np.abs(self.s - np.float32((start + end) / 2))
        np.subtract(np.float32((end - start) / 2), away, out=away)
        away *= self.per_pixel_s
        away += np.float32(0.5)
        return np.clip(away, 0, np.minimum(1, (end - start) * self.per_pixel_s), out=away)

    def stretch(self, start: float, end: float) -> Map:
        """Compute the share of each row with ``start <= z < end``. Shape ``(h, 1)``."""
        away = (end - start) / 2 - np.abs(self.z - (start + end) / 2)
        return np.clip(away / self.pixel_z + 0.5, 0, np.minimum(1, (end - start) / self.pixel_z))

    def dashes(self, length: float, period: float, shift: float) -> Map:
        """Compute the share of each row on dashes of ``length`` every ``period`` metres. Shape ``(h, 1)``."""
        phase = np.mod(self.z + shift, period)
        near = np.minimum(phase, period - phase) - (period - length) / 2
        blurred = np.clip((self.pixel_z - period / 2) / period, 0, 1)
        return np.clip(near / self.pixel_z + 0.5, 0, 1) * (1 - blurred) + blurred * (length / period)

    def lay(self, cover: Map, colour: npt.ArrayLike, label: int) -> None:
        """Paint with an unlit ``colour``, with ``cover`` as the opacity from 0 to 1."""
        paint = self.light.shade(colour, UP).tolist()
        at = np.flatnonzero(cover > 0)
        share = cover.ravel()[at]
        for channel, value in zip(self.colour.reshape(3, -1), paint, strict=True):
            under = channel[at]
            channel[at] = under + share * (np.float32(value) - under)
        self.label.ravel()[at[share >= 0.5]] = label

    def dim(self, loss: Map) -> None:
        """Darken every pixel by a share."""
        self.colour *= 1 - loss


def paint_ground(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Paint road, lane marks, pavements and grass."""
    ground = _Ground(canvas)
    for side in (street.left, street.right):
        _lay_side(ground, side, rng)
    asphalt = rng.uniform(70, 125) + rng.uniform(-5, 5, 3)
    road = ground.band(-street.left.kerb, street.right.kerb)
    ground.lay(road, asphalt, Class.ROAD)
    _wear(ground, street, road, rng)
    _mark(ground, street, rng)
    _grain(ground, rng)
    rows = np.s_[ground.top :]
    cv2.merge([cv2.convertScaleAbs(channel) for channel in ground.colour], canvas.image[rows])
    canvas.label[rows] = ground.label
    canvas.depth[rows] = ground.z


def _lay_side(ground: _Ground, side: Side, rng: np.random.Generator) -> None:
    def strip(start: float, end: float) -> Map:
        low, high = sorted((side.sign * start, side.sign * end))
        return ground.band(low, high)

    paving = np.array([(150, 146, 140), (168, 158, 146), (135, 137, 142), (160, 140, 125)])[rng.integers(4)]
    paving = paving * rng.uniform(0.85, 1.1)
    grass = np.array([88, 116, 52]) * rng.uniform(0.8, 1.2) + rng.uniform(-8, 8, 3)
    walk = side.kerb + side.pavement
    pavement = strip(side.kerb, walk)
    if side.style == "town":
        ground.lay(strip(0.0, 1e4), paving, Class.PAVEMENT)
    else:
        ground.lay(strip(0.0, 1e4), grass, Class.TERRAIN)
        ground.lay(pavement, paving, Class.PAVEMENT)
    ground.lay(strip(side.kerb, side.kerb + 0.18), paving * 1.18, Class.PAVEMENT)
    slab = rng.uniform(0.6, 1.2)
    ground.dim(0.25 * (1 - ground.dashes(slab - 0.04, slab, 0.0)) * pavement)


def _wear(ground: _Ground, street: Street, road: Map, rng: np.random.Generator) -> None:
    loss = np.zeros_like(ground.s)
    worn = rng.uniform(0.0, 0.12)
    for lane in street.lanes:
        wheels = np.abs(np.abs(ground.s - np.float32(lane)) - np.float32(0.75))
        loss += worn * np.clip(1 - wheels / 0.5, 0, 1)
    for _ in range(rng.integers(0, 3)):
        s, z = rng.uniform(-street.left.kerb, street.right.kerb - 1), rng.uniform(4, 30)
        patch = ground.band(s, s + rng.uniform(0.5, 2)) * ground.stretch(z, z + rng.uniform(1, 6))
        loss += rng.uniform(-0.1, 0.22) * patch
    ground.dim(loss * road)


def _mark(ground: _Ground, street: Street, rng: np.random.Generator) -> None:
    white = rng.uniform(195, 240) * np.array([1.0, 0.99, 0.96])
    middle = np.array([225, 180, 60]) if rng.random() < 0.3 else white
    width, length = rng.uniform(0.12, 0.2), rng.uniform(2.0, 4.0)
    dashes = ground.dashes(length, length * rng.uniform(2.0, 3.0), rng.uniform(0, 9))

    def line(s: float, share: Map | float, colour: npt.ArrayLike) -> None:
        ground.lay(ground.band(s - width / 2, s + width / 2) * share, colour, Class.LANE_MARK)

    if len(street.lanes) > 2 or rng.random() < 0.35:
        line(-0.18, 1.0, middle)
        line(0.18, 1.0, middle)
    else:
        line(0.0, dashes, middle)
    for lane in street.lanes[1:]:
        if abs(lane - street.lane_width / 2) > 0.5:
            line(lane - street.lane_width / 2, dashes, white)
    if street.parking or rng.random() < 0.5:
        edge = len(street.lanes) / 2 * street.lane_width
        line(-edge, 1.0, white)
        line(edge, 1.0, white)
    if rng.random() < 0.25:
        z, deep = rng.uniform(7, 24), rng.uniform(2.5, 4.0)
        stripes = np.mod(ground.s, 1.0) < 0.5
        road = ground.band(0.4 - street.left.kerb, street.right.kerb - 0.4)
        ground.lay(road * stripes * ground.stretch(z, z + deep), white, Class.LANE_MARK)


def _grain(ground: _Ground, rng: np.random.Generator) -> None:
    x0, y0 = rng.uniform(0, 512, 2)
    fine = sample_tile(noise_tile(1.0), ground.s * 32 + x0, ground.z * 20 + y0)
    coarse = sample_tile(noise_tile(6.0), ground.s * 9 + x0, ground.z * 4 + y0)
    fade = np.clip(0.35 / (ground.pixel_z * 6 + 0.05), 0, 1)
    strength = np.where(ground.label == Class.TERRAIN, np.float32(0.12), np.float32(0.045))
    ground.dim(strength * (fine * fade + 0.7 * coarse * np.sqrt(fade)))


def cast_shadows(canvas: Canvas, shadows: list[Points], contacts: list[Points]) -> None:
    """Darken the ground in shadows and under objects; call it before the objects are painted.

    Args:
        canvas: The canvas.
        shadows: Polygons ``(s, z)`` on the ground where the sun is hidden, in metres. Shape ``(N, 2)`` each.
        contacts: Polygons ``(s, z)`` under objects, in metres. Shape ``(N, 2)`` each.
    """
    camera, light = canvas.camera, canvas.light
    dark = np.zeros(camera.size, np.uint8)
    sunlight = light.direct * max(light.sun[1], 0.2)
    loss = sunlight / (light.ambient + sunlight)
    for polygons, share in ((shadows, loss), (contacts, max(loss, 0.4))):
        if polygons:
            places = np.concatenate(polygons)
            pixels = camera.project(np.insert(places, 1, 0.0, axis=1)).astype(np.int32)
            for outline in np.split(pixels, np.cumsum([len(p) for p in polygons[:-1]])):
                cv2.fillConvexPoly(dark, outline, round(255 * share))
    rows = np.s_[int(camera.horizon) + 1 :]
    dark = cv2.GaussianBlur(dark[rows], (0, 0), max(0.5, camera.size[1] / 400))
    cv2.multiply(canvas.image[rows], cv2.merge([255 - dark] * 3), canvas.image[rows], 1 / 255)
