"""People who stand and walk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.item import Item, capsule, disc, rectangle, shadow_of
from anomaly.datasets.synthetic.light import Light

_SKINS = np.array([(236.0, 198, 168), (214, 166, 128), (168, 116, 82), (112, 76, 54), (78, 54, 42)])
_HAIRS = np.array([(40.0, 30, 24), (90, 62, 38), (170, 140, 90), (130, 128, 126), (24, 22, 22)])
_CLOTHES = np.array(
    [
        (40.0, 44, 56), (28, 28, 30), (60, 72, 108), (120, 40, 42), (176, 172, 164), (92, 96, 84),
        (58, 84, 70), (196, 150, 60), (140, 90, 120), (210, 210, 214), (84, 62, 48), (50, 100, 140),
    ]
)  # fmt: skip
_TORSO = [(-0.12, 0.8), (-0.05, 0.84), (0.05, 0.84), (0.12, 0.8), (0.1, 0.48), (-0.1, 0.48)]
_DRESS = [*_TORSO[:4], (0.14, 0.3), (-0.14, 0.3)]
_HALF = np.array([(0, 0.83), (0.1, 0.8), (0.09, 0.5), (0, 0.5)])
_HAIR = [
    (-0.06, 0.92),
    (-0.055, 0.97),
    (0, 0.995),
    (0.055, 0.97),
    (0.06, 0.92),
    (0.03, 0.955),
    (-0.03, 0.955),
]
_BAG = [(0.08, 0.5), (0.19, 0.5), (0.18, 0.63), (0.09, 0.63)]

Part = tuple[npt.ArrayLike, npt.NDArray[np.float64]]


def _parts(rng: np.random.Generator, light: Light) -> list[Part]:
    """Make the outlines of a person of height 1 with unlit colours, in the order of painting."""
    stride, swing = rng.uniform(0.02, 0.13), rng.uniform(-0.1, 0.1)
    skin, hair = _SKINS[rng.integers(len(_SKINS))], _HAIRS[rng.integers(len(_HAIRS))]
    top, legs = _CLOTHES[rng.integers(len(_CLOTHES))], _CLOTHES[rng.integers(len(_CLOTHES))] * 0.8
    bag, dress = rng.random(2) < (0.3, 0.25)
    dim = 0.78 if light.direct > 0.2 else 0.92
    shoe = np.array([30.0, 28, 28])
    parts: list[Part] = [
        (capsule((0.045, 0.5), (stride, 0.04), 0.055, 0.03), legs * dim),
        (capsule((-0.045, 0.5), (-stride, 0.04), 0.055, 0.03), legs),
        (capsule((stride, 0.02), (stride + 0.03, 0.015), 0.02, 0.018), shoe),
        (capsule((-stride, 0.02), (-stride + 0.03, 0.015), 0.02, 0.018), shoe),
        (capsule((0.1, 0.77), (0.125 + swing, 0.47), 0.035, 0.024), top * dim),
        (_DRESS if dress else _TORSO, top),
        (_HALF * (-np.sign(light.sun[0]), 1), top * dim),
        (capsule((-0.1, 0.77), (-0.125 - swing, 0.47), 0.035, 0.024), top),
        (disc((0.125 + swing, 0.455), 0.022, 8), skin),
        (disc((-0.125 - swing, 0.455), 0.022, 8), skin),
        (capsule((0, 0.84), (0, 0.9), 0.03, 0.03), skin * 0.85),
        (disc((0, 0.925), 0.062, 14) * (0.9, 1.0), skin),
        (_HAIR, hair),
    ]
    return [*parts[:5], (_BAG, np.array([92.0, 60, 38])), *parts[5:]] if bag else parts


def make_person(rng: np.random.Generator, s: float, z: float, light: Light) -> Item:
    """Make a person at ``(s, z)``, seen from the front or the back."""
    height = rng.uniform(1.55, 1.9) if rng.random() < 0.85 else rng.uniform(1.05, 1.4)
    build = rng.uniform(0.9, 1.2)
    parts = _parts(rng, light)

    def draw(canvas: Canvas) -> None:
        board = canvas.pen(z, Class.PERSON).board(s, z)
        for outline, colour in parts:
            board.fill(np.asarray(outline) * (height * build, height), light.shade(colour))

    base = rectangle(s, z, 0.2 * build, 0.12)
    return Item(s, z, 0.25 * height * build, height, draw, [shadow_of(base, height, light)], [base])
