"""Anomalous objects on and beside the road: rounded objects, and objects made of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.camera import Camera
from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import NOTHING
from anomaly.datasets.synthetic.item import Item, Points, disc, rectangle, shadow_of
from anomaly.datasets.synthetic.light import Light
from anomaly.datasets.synthetic.odd_shapes import SIDE, SILHOUETTES, sample_pattern
from anomaly.datasets.synthetic.street import Street
from anomaly.datasets.synthetic.texture import Field

_TRIES = 40
_MOST_HIDDEN = 0.4

# Boxes (left, right, bottom, top, front, back) in a unit cube, and the height of the cube in metres.
_CRATE = (((0, 1, 0, 1, 0, 1),), 0.9)
_SLAB = (((0, 1, 0, 0.25, 0, 1),), 1.2)
_TOWER = (((0.2, 0.8, 0, 1, 0.2, 0.8),), 1.7)
_SOFA = (
    ((0, 1, 0, 0.42, 0.1, 0.9), (0, 1, 0.42, 0.9, 0.7, 0.9), (0, 0.15, 0.42, 0.62, 0.1, 0.7),
     (0.85, 1, 0.42, 0.62, 0.1, 0.7)),
    1.4,
)  # fmt: skip
_PILE = (((0, 0.6, 0, 0.5, 0.2, 0.8), (0.5, 1, 0, 0.4, 0, 0.5), (0.15, 0.55, 0.5, 0.9, 0.3, 0.7)), 1.3)
_TABLE = (
    ((0.02, 0.1, 0, 0.6, 0.1, 0.2), (0.9, 0.98, 0, 0.6, 0.1, 0.2), (0.02, 0.1, 0, 0.6, 0.8, 0.9),
     (0.9, 0.98, 0, 0.6, 0.8, 0.9), (0, 1, 0.6, 0.72, 0, 1)),
    1.2,
)  # fmt: skip
_FURNITURE = (_CRATE, _SLAB, _TOWER, _SOFA, _PILE, _TABLE)


def _relief(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Compute the normals (right, up, towards the camera) of a body inflated in a silhouette. Shape ``(3, h, w)``."""
    inside = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5)
    inside = inside[1:-1, 1:-1]
    radius = max(float(inside.max()), 1.0)
    bulge = radius * np.sqrt(np.clip(1 - (1 - inside / radius) ** 2, 0, 1))
    bulge = cv2.GaussianBlur(bulge.astype(np.float32), (0, 0), 2.5)
    normal = np.stack(
        [
            -cv2.Sobel(bulge, -1, 1, 0, scale=1 / 8),
            cv2.Sobel(bulge, -1, 0, 1, scale=1 / 8),
            np.ones_like(bulge),
        ]
    )
    return normal / np.sqrt((normal**2).sum(0))


def _make_round(rng: np.random.Generator, s: float, z: float, height: float, kind: int, light: Light) -> Item:
    """Make a rounded object with one of the silhouettes."""
    silhouette, _, aspect = SILHOUETTES[kind]
    mask = silhouette(rng)
    if rng.random() < 0.5:
        mask = mask[:, ::-1].copy()
    pattern, normal = sample_pattern(rng), _relief(mask)
    half = height * aspect / 2
    facing = np.tensordot(np.array([1, 1, -1]) * light.sun, normal, 1).clip(0)
    glow = light.ambient * (0.82 + 0.18 * normal[1]) * np.linspace(1.05, 0.85, SIDE, dtype=np.float32)[:, None]
    lit = glow[..., None] + light.direct * facing[..., None] * light.tint
    colour = pattern * lit
    cover = mask.astype(np.float32) / np.float32(255)

    def draw(canvas: Canvas) -> None:
        column, row, scale = canvas.camera.board(s, z)
        left, right, top = column - half * scale, column + half * scale, row - height * scale
        corners = np.array([(left, top), (right, top), (right, row), (left, row)])
        _stamp(canvas, z, colour, cover, corners)

    ground = np.flatnonzero(mask[-4:].any(0)) / SIDE if mask[-4:].any() else np.array([0.3, 0.7])
    foot = rectangle(s + (ground.mean() - 0.5) * 2 * half, z, float(np.ptp(ground)) * half + 0.05, 0.12 * height)
    body = disc((s, z), half * 0.7, 10)
    return Item(s, z, half, height, draw, [shadow_of(body, height * 0.9, light, height * 0.2)], [foot])


@dataclass(frozen=True)
class _Boxes:
    """Boxes in a cube of ``size`` metres, rotated by ``heading`` about its centre at ``(s, z)``."""

    boxes: tuple[tuple[float, ...], ...]
    s: float
    z: float
    size: float
    heading: float
    pattern: Field

    def place(self, corners: Points) -> Points:
        """Convert positions in the unit cube to road coordinates. Shape ``(..., 3)``."""
        x, y, deep = np.moveaxis((corners - (0.5, 0, 0.5)) * self.size, -1, 0)
        sin, cos = np.sin(self.heading), np.cos(self.heading)
        return np.stack([self.s + x * cos + deep * sin, y, self.z - x * sin + deep * cos], axis=-1)

    def draw(self, canvas: Canvas) -> None:
        eye = canvas.camera.eye(self.z)
        faces = []
        for left, right, low, high, front, back in self.boxes:
            for axis, value in ((0, left), (0, right), (1, high), (2, front), (2, back)):
                square = np.array([(left, high, front), (right, high, front), (right, low, front), (left, low, front)])
                if axis == 0:
                    square = np.array(
                        [(value, high, front), (value, high, back), (value, low, back), (value, low, front)]
                    )
                elif axis == 1:
                    square = np.array(
                        [(left, high, back), (right, high, back), (right, high, front), (left, high, front)]
                    )
                else:
                    square[:, 2] = value
                middle = np.array([(left + right) / 2, (low + high) / 2, (front + back) / 2])
                outward = self.place(square.mean(0)) - self.place(middle)
                corners = self.place(square)
                towards = eye - corners.mean(0)
                if outward @ towards > 0:
                    faces.append((float(towards @ towards), corners, outward))
        for _, corners, outward in sorted(faces, key=lambda face: -face[0]):
            lit = canvas.light.shade(np.ones(3), outward.tolist())
            _stamp(
                canvas, self.z, self.pattern * lit, np.ones((SIDE, SIDE), np.float32), canvas.camera.project(corners)
            )


def _make_boxes(rng: np.random.Generator, s: float, z: float, size: float, kind: int, light: Light) -> Item:
    """Make an object of boxes."""
    boxes = _FURNITURE[kind][0]
    thing = _Boxes(boxes, s, z, size, rng.uniform(-0.7, 0.7), sample_pattern(rng))
    shadows, contacts = [], []
    for left, right, low, high, front, back in boxes:
        square = np.array([(left, 0, front), (right, 0, front), (right, 0, back), (left, 0, back)])
        base = thing.place(square)[:, [0, 2]]
        shadows.append(shadow_of(base, high * size, light, low * size))
        if low == 0:
            contacts.append(base)
    return Item(s, z, 0.65 * size, max(box[3] for box in boxes) * size, thing.draw, shadows, contacts)


def _stamp(canvas: Canvas, z: float, colour: npt.NDArray[np.floating], cover: Field, corners: Points) -> None:
    colour = colour.astype(np.float32)
    size = tuple(int(n) for n in np.clip(np.ptp(corners, axis=0), 2, SIDE))
    if size != (SIDE, SIDE):
        colour, cover = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (colour, cover))
    canvas.pen(z, NOTHING).stamp(colour, cover, corners)


def place_oddities(
    rng: np.random.Generator, count: int, street: Street, camera: Camera, light: Light, things: list[Item]
) -> list[Item]:
    """Draw ``count`` anomalous objects, each more than half visible behind ``things`` and the other objects.

    The square roots of their areas are log-uniform, from 1/26 to 1/3 of the image height.
    """
    odd: list[Item] = []
    for _ in range(count):
        best: tuple[float, Item] | None = None
        for _ in range(_TRIES):
            item = _sample_oddity(rng, street, camera, light)
            hidden = _hidden(item, camera, things + odd)
            if best is None or hidden < best[0]:
                best = hidden, item
            if hidden < _MOST_HIDDEN:
                break
        odd += [best[1]] if best else []
    return odd


def _sample_oddity(rng: np.random.Generator, street: Street, camera: Camera, light: Light) -> Item:
    kind = int(rng.integers(len(SILHOUETTES) + len(_FURNITURE)))
    rounded = kind < len(SILHOUETTES)
    if rounded:
        _, usual, area = SILHOUETTES[kind]
    else:
        boxes, usual = _FURNITURE[kind - len(SILHOUETTES)]
        area = max(box[3] for box in boxes)
    size = usual * rng.uniform(0.6, 1.4)
    rows = camera.size[0]
    nearest = 1.1 * camera.focal * camera.height / (rows - camera.horizon)
    pixels = rows * np.exp(rng.uniform(np.log(1 / 26), np.log(1 / 3)))
    z = float(max(camera.focal * size * np.sqrt(area) / pixels, nearest))
    if rng.random() < 0.4:
        side = street.left if rng.random() < 0.5 else street.right
        s = side.sign * (side.kerb + rng.uniform(0.3, max(0.6, min(side.pavement + side.verge, 6.0) - 0.7)))
    else:
        s = rng.uniform(-street.left.kerb + 0.3, street.right.kerb - 0.3)
    if rounded:
        return _make_round(rng, s, z, size, kind, light)
    return _make_boxes(rng, s, z, size, kind - len(SILHOUETTES), light)


def _hidden(item: Item, camera: Camera, things: list[Item]) -> float:
    """Compute an upper bound of the share of an object's box that is hidden by nearer objects or outside the image."""
    left, top, right, bottom = item.box(camera)
    area = (right - left) * (bottom - top)

    def shared(a: float, b: float, c: float, d: float) -> float:
        return max(min(right, c) - max(left, a), 0.0) * max(min(bottom, d) - max(top, b), 0.0)

    lost = area - shared(0, 0, camera.size[1], camera.size[0])
    nearer = (other for other in things if other.near < item.z)
    return (lost + sum(shared(*other.box(camera)) for other in nearer)) / area
