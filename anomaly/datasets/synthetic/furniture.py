"""Street lamps, traffic lights and traffic signs."""

from __future__ import annotations

import numpy as np

from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.item import Item, capsule, disc, shadow_of
from anomaly.datasets.synthetic.light import Light

_GREY = np.array([118.0, 122, 124])
_RED, _WHITE, _BLUE, _GREEN = np.array([(196.0, 30, 36), (238, 238, 236), (32, 84, 170), (40, 110, 70)])
_TRIANGLE = np.array([(-1.0, -0.75), (1.0, -0.75), (0, 1.0)])
_SQUARE = np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)])
_LETTER = np.array([(-0.35, -0.55), (-0.05, -0.55), (0.35, 0.4), (-0.35, 0.55)])
# Outline and its colour, inner shape and its colour; the radius of a sign is 1.
_PLATES = (
    (disc((0, 0), 1.0), _RED, disc((0, 0), 0.72), _WHITE),
    (_TRIANGLE, _RED, _TRIANGLE * 0.62, _WHITE),
    (_SQUARE, _BLUE, _LETTER, _WHITE),
    (disc((0, 0), 1.0, 8), _RED, _SQUARE * (0.75, 0.22), _WHITE),
    (_SQUARE * (2.0, 0.6), _GREEN, _SQUARE * (1.6, 0.15), _WHITE),
)
_LAMPS = np.array([(235.0, 50, 40), (245, 180, 40), (60, 220, 120)])


def make_lamp(rng: np.random.Generator, s: float, z: float, light: Light) -> Item:
    """Make a street lamp whose arm reaches over the road."""
    height, reach = rng.uniform(5.5, 8.5), -np.sign(s) * rng.uniform(0.8, 2.2)
    grey = _GREY * rng.uniform(0.5, 1.2)

    def draw(canvas: Canvas) -> None:
        board = canvas.pen(z, Class.POLE).board(s, z)
        board.fill(capsule((0, 0), (0, height), 0.11, 0.06), light.shade(grey))
        board.fill(capsule((0, height), (reach, height + 0.35), 0.06, 0.05), light.shade(grey))
        head = capsule((reach, height + 0.33), (reach * 1.25, height + 0.3), 0.1, 0.13)
        board.fill(head, (255, 236, 190) if light.lamps else light.shade(grey * 1.3))

    shadow = shadow_of(disc((s, z), 0.1, 6), height, light)
    return Item(s, z, abs(reach) * 1.3, height + 0.5, draw, [shadow], [disc((s, z), 0.2, 8)])


def make_traffic_light(rng: np.random.Generator, s: float, z: float, light: Light) -> Item:
    """Make a pole with three lamps, one of them lit."""
    height, lit = rng.uniform(2.6, 3.4), int(rng.integers(3))

    def draw(canvas: Canvas) -> None:
        pole = canvas.pen(z, Class.POLE).board(s, z)
        pole.fill(capsule((0, 0), (0, height), 0.08, 0.07), light.shade(_GREY * 0.7))
        case = canvas.pen(z, Class.SIGN).board(s, z)
        box = [(-0.2, height - 0.3), (0.2, height - 0.3), (0.2, height + 0.75), (-0.2, height + 0.75)]
        case.fill(box, light.shade((34, 36, 36)))
        for i, colour in enumerate(_LAMPS):
            case.detail(disc((0, height + 0.55 - 0.32 * i), 0.12), colour if i == lit else colour * 0.22)

    shadow = shadow_of(disc((s, z), 0.1, 6), height, light)
    return Item(s, z, 0.2, height + 0.75, draw, [shadow], [disc((s, z), 0.2, 8)])


def make_sign(rng: np.random.Generator, s: float, z: float, light: Light) -> Item:
    """Make a pole with a round, triangular, square or long sign."""
    height, radius = rng.uniform(2.1, 2.9), rng.uniform(0.3, 0.42)
    outline, ground, inner, mark = _PLATES[rng.integers(len(_PLATES))]

    def draw(canvas: Canvas) -> None:
        pole = canvas.pen(z, Class.POLE).board(s, z)
        pole.fill(capsule((0, 0), (0, height + 0.2), 0.045, 0.045), light.shade(_GREY * 1.2))
        plate = canvas.pen(z, Class.SIGN).board(s, z)
        plate.fill(outline * radius + (0, height), light.shade(ground))
        if plate.scale * radius > 2:
            plate.detail(inner * radius + (0, height), light.shade(mark))

    shadow = shadow_of(disc((s, z), 0.08, 6), height, light)
    return Item(s, z, radius * 1.7, height + radius, draw, [shadow], [disc((s, z), 0.12, 8)])
