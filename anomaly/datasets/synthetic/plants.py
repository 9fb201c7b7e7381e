"""Trees, bushes and hedges: clumps of leaves, lit from the side of the sun."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.item import Item, disc, rectangle, shadow_of
from anomaly.datasets.synthetic.light import UP, Light
from anomaly.datasets.synthetic.street import Side
from anomaly.datasets.synthetic.texture import Field, fbm

_CROWN = 96
_CROWNS = 48
_LEAVES = np.array([(70.0, 102, 40), (54, 86, 36), (92, 116, 48), (60, 92, 58), (108, 112, 44), (44, 72, 40)])


@lru_cache(maxsize=2 * _CROWNS)
def _crown(seed: int, cone: bool) -> tuple[Field, Field]:
    """Make a broad or conical crown: how far inside it each pixel is, and the shades of leaves. Shape ``(96, 96)``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : _CROWN * 1j, -1 : 1 : _CROWN * 1j].astype(np.float32)
    clumps = fbm(rng, (_CROWN, _CROWN), _CROWN / 5, 4)
    if cone:
        inside = 0.475 * (1 + y) - np.abs(x) - np.maximum(y - 0.85, 0) * 6
    else:
        inside = 1 - (np.abs(x) ** 2.3 + np.abs(y) ** 2.3)
    leaves = 0.13 * (clumps - np.roll(clumps, 5, axis=0)) + 0.1 * rng.standard_normal(x.shape, dtype=np.float32)
    return 1.6 * inside + 0.22 * clumps - 0.22, leaves


@dataclass(frozen=True)
class _Foliage:
    """Leaves within ``half`` metres of ``s``, from ``bottom`` to ``top`` metres above the ground."""

    seed: int
    s: float
    z: float
    half: float
    bottom: float
    top: float
    leaf: npt.NDArray[np.float64]
    cone: bool

    def draw(self, canvas: Canvas) -> None:
        light = canvas.light
        column, row, scale = canvas.camera.board(self.s, self.z)
        left, right = column - self.half * scale, column + self.half * scale
        top, bottom = row - self.top * scale, row - self.bottom * scale
        size = tuple(int(np.clip(extent, 3, _CROWN)) for extent in (right - left, bottom - top))
        field, leaves = (
            part if size == part.shape else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            for part in _crown(self.seed % _CROWNS, self.cone)
        )
        y = np.linspace(0.5, -0.5, size[1], dtype=np.float32)[:, None]
        x = np.linspace(-0.5, 0.5, size[0], dtype=np.float32)[None]
        towards = 1.1 * y + np.float32(0.7 * np.sign(light.sun[0])) * x
        lit = np.clip(0.72 + np.float32(0.16 + 0.3 * light.direct) * towards + leaves, 0.22, 1.6)
        cover = np.clip(field * 7, 0, 1)
        colour = cv2.merge([lit * np.float32(value) for value in light.shade(self.leaf, UP)])
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        if self.seed % 2:
            corners = [corners[i] for i in (1, 0, 3, 2)]
        canvas.pen(self.z, Class.VEGETATION).stamp(colour, cover, corners)


def make_tree(rng: np.random.Generator, s: float, z: float, light: Light) -> Item:
    """Make a broad or conical tree with a trunk."""
    cone = bool(rng.random() < 0.2)
    height = rng.uniform(5.0, 11.0)
    half = height * (rng.uniform(0.16, 0.22) if cone else rng.uniform(0.26, 0.4))
    bottom = height * (0.12 if cone else rng.uniform(0.22, 0.36))
    leaf = _LEAVES[rng.integers(len(_LEAVES))] * rng.uniform(0.8, 1.25)
    bark = np.array([86, 70, 56]) * rng.uniform(0.7, 1.2)
    girth = height * rng.uniform(0.014, 0.024)
    foliage = _Foliage(int(rng.integers(2**31)), s, z, half, bottom, height, leaf, cone)

    def draw(canvas: Canvas) -> None:
        trunk = canvas.pen(z, Class.VEGETATION).board(s, z)
        fork = bottom + height * 0.2
        trunk.fill(
            [(-girth * 1.3, 0), (girth * 1.3, 0), (girth * 0.8, fork), (-girth * 0.8, fork)],
            light.shade(bark),
        )
        dark = -np.sign(light.sun[0]) * girth
        trunk.detail([(0, 0), (dark, 0), (dark * 0.7, bottom), (0, bottom)], light.shade(bark) * 0.7)
        foliage.draw(canvas)

    shadows = [
        shadow_of(disc((s, z), half * 0.85, 10), height * 0.9, light, bottom),
        shadow_of(disc((s, z), girth, 6), bottom, light),
    ]
    return Item(s, z, half, height, draw, shadows, [disc((s, z), girth * 2.5, 8)])


def make_bush(rng: np.random.Generator, s: float, z: float, light: Light) -> Item:
    """Make a bush or a piece of hedge."""
    height, half = rng.uniform(0.6, 1.9), rng.uniform(0.5, 1.8)
    leaf = _LEAVES[rng.integers(len(_LEAVES))] * rng.uniform(0.8, 1.2)
    foliage = _Foliage(int(rng.integers(2**31)), s, z, half, -0.15, height, leaf, cone=False)
    base = rectangle(s, z, half * 0.8, 0.4)
    return Item(s, z, half, height, foliage.draw, [shadow_of(base, height * 0.8, light)], [base])


def sample_plants(rng: np.random.Generator, side: Side, light: Light) -> list[Item]:
    """Draw the plants of one side: street trees in town, gardens in a suburb, a wood in a park."""
    if side.style == "town":
        if rng.random() < 0.5:
            return []
        s, step = side.sign * (side.kerb + 0.8), rng.uniform(7, 14)
        return [make_tree(rng, s, float(z), light) for z in np.arange(rng.uniform(6, 14), 80, step)]
    inner, outer = side.kerb + side.pavement + 1.0, side.wall + (12 if side.style == "park" else 0)
    items: list[Item] = []
    for make, count, near, far in (
        (make_tree, rng.integers(14, 24) if side.style == "park" else rng.integers(5, 12), 7, 110),
        (make_bush, rng.integers(3, 10), 6, 60),
    ):
        for _ in range(count):
            s = side.sign * rng.uniform(inner, max(outer, inner + 1))
            items.append(make(rng, s, float(np.exp(rng.uniform(np.log(near), np.log(far)))), light))
    return items
