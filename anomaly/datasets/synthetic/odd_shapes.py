"""Silhouettes and patterns of the anomalous objects, which no training scene contains."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.item import Points, capsule, disc
from anomaly.datasets.synthetic.texture import Field, fbm

SIDE = 128
"""Side length of a silhouette or pattern in pixels."""

Mask = npt.NDArray[np.uint8]


def _draw(parts: list[Points]) -> Mask:
    """Draw the union of polygons in a unit square, with ``y`` upwards from the ground, as a mask of 0 and 255."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for part in parts:
        pixels = np.asarray(part) * (SIDE, -SIDE) + (0, SIDE)
        cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _oval(x: float, y: float, wide: float, high: float) -> Points:
    return disc((0, 0), 1.0, 18) * (wide, high) + (x, y)


def _quadruped(rng: np.random.Generator) -> Mask:
    leg, thick = rng.uniform(0.22, 0.42), rng.uniform(0.025, 0.05)
    body = leg + rng.uniform(0.1, 0.16)
    parts = [_oval(0.46, body, rng.uniform(0.28, 0.33), rng.uniform(0.12, 0.18))]
    for x in (0.23, 0.31, 0.61, 0.69):
        parts.append(capsule((x, body), (x + rng.uniform(-0.05, 0.05), thick), thick * 1.5, thick))
    head = (rng.uniform(0.82, 0.88), body + rng.uniform(0.08, 0.36))
    parts += [capsule((0.68, body + 0.05), head, 0.09, 0.05), _oval(head[0] + 0.04, head[1], 0.09, 0.055)]
    for lean in (-0.05, 0.03):
        parts.append(capsule(head, (head[0] + lean, head[1] + rng.uniform(0.07, 0.13)), 0.025, 0.01))
    parts.append(capsule((0.17, body + 0.04), (0.05, body - rng.uniform(-0.1, 0.15)), 0.02, 0.025))
    if rng.random() < 0.3:
        parts.append(_oval(0.42, body + 0.14, 0.12, 0.12))
    return _draw(parts)


def _bird(rng: np.random.Generator) -> Mask:
    head = (rng.uniform(0.68, 0.78), rng.uniform(0.84, 0.92))
    parts = [_oval(0.42, 0.5, 0.28, 0.16), capsule((0.6, 0.52), head, 0.07, 0.035), _oval(*head, 0.07, 0.055)]
    parts.append(
        np.array(
            [
                (head[0] + 0.04, head[1] + 0.03),
                (head[0] + 0.19, head[1] - 0.01),
                (head[0] + 0.04, head[1] - 0.03),
            ]
        )
    )
    parts += [capsule((x, 0.42), (x + 0.06, 0.02), 0.03, 0.02) for x in (0.38, 0.5)]
    parts.append(np.array([(0.2, 0.56), (0.02, 0.7), (0.06, 0.5), (0.2, 0.44)]))
    return _draw(parts)


def _blob(rng: np.random.Generator) -> Mask:
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones(96)
    for k in range(2, 7):
        radius += rng.normal(0, 0.34 / k) * np.cos(k * turn + rng.uniform(0, 6.3))
    points = np.clip(radius, 0.35, None)[:, None] * np.column_stack([np.cos(turn), np.sin(turn)])
    low, high = points.min(0), points.max(0)
    return _draw([(points - low) / (high - low)])


def _ball(rng: np.random.Generator) -> Mask:
    return _draw([_oval(0.5, 0.5, 0.49, 0.49)])


def _barrel(rng: np.random.Generator) -> Mask:
    bulge = rng.uniform(0.0, 0.08)
    y = np.linspace(0.01, 0.99, 14)
    half = 0.3 + bulge * (1 - (2 * y - 1) ** 2)
    return _draw([np.concatenate([np.column_stack([0.5 - half, y]), np.column_stack([0.5 + half, y])[::-1]])])


def _cone(rng: np.random.Generator) -> Mask:
    tip = rng.uniform(0.03, 0.08)
    return _draw([
        np.array([(0.5 - tip, 0.98), (0.5 + tip, 0.98), (0.78, 0.08), (0.22, 0.08)]),
        np.array([(0.1, 0.0), (0.9, 0.0), (0.9, 0.09), (0.1, 0.09)]),
    ])  # fmt: skip


def _ring(rng: np.random.Generator) -> Mask:
    mask = _ball(rng)
    cv2.circle(mask, (SIDE // 2, SIDE // 2), round(SIDE * rng.uniform(0.16, 0.3)), 0, -1, cv2.LINE_AA)
    return mask


def _star(rng: np.random.Generator) -> Mask:
    points = int(rng.integers(5, 10))
    turn = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False) + rng.uniform(0, 1)
    radius = np.tile([0.49, rng.uniform(0.2, 0.34)], points)
    return _draw([np.column_stack([0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn)])])


def _mushroom(rng: np.random.Generator) -> Mask:
    turn = np.linspace(0, np.pi, 24)
    base = rng.uniform(0.4, 0.6)
    cap = np.column_stack([0.5 + 0.48 * np.cos(turn), base + (0.98 - base) * np.sin(turn)])
    stem = rng.uniform(0.05, 0.16)
    return _draw(
        [
            cap,
            np.array(
                [
                    (0.5 - stem, base + 0.02),
                    (0.5 + stem, base + 0.02),
                    (0.5 + stem * 1.2, 0),
                    (0.5 - stem * 1.2, 0),
                ]
            ),
        ]
    )


def _plush(rng: np.random.Generator) -> Mask:
    ear = rng.uniform(0.07, 0.12)
    parts = [_oval(0.5, 0.34, 0.24, 0.28), _oval(0.5, 0.73, 0.21, 0.19)]
    for side in (-1, 1):
        parts += [_oval(0.5 + side * 0.16, 0.89, ear, ear), _oval(0.5 + side * 0.2, 0.1, 0.12, 0.1)]
        parts.append(capsule((0.5 + side * 0.18, 0.5), (0.5 + side * 0.36, rng.uniform(0.3, 0.62)), 0.09, 0.07))
    return _draw(parts)


def _debris(rng: np.random.Generator) -> Mask:
    parts = []
    for _ in range(rng.integers(5, 11)):
        x, y = rng.uniform(0.15, 0.85), rng.uniform(0.05, 0.4)
        turn = np.sort(rng.uniform(0, 2 * np.pi, 5))
        size = rng.uniform(0.06, 0.2) * np.array([1.4, 1.0])
        parts.append(np.clip(np.column_stack([np.cos(turn), np.sin(turn)]) * size + (x, y), 0, 1))
    return _draw(parts)


SILHOUETTES: tuple[tuple[Callable[[np.random.Generator], Mask], float, float], ...] = (
    (_quadruped, 1.5, 1.15),
    (_bird, 1.4, 0.9),
    (_blob, 1.0, 1.2),
    (_ball, 0.7, 1.0),
    (_barrel, 1.0, 1.0),
    (_cone, 0.8, 0.8),
    (_ring, 0.8, 1.0),
    (_star, 0.9, 1.0),
    (_mushroom, 1.3, 1.0),
    (_plush, 1.1, 0.9),
    (_debris, 0.8, 1.6),
)
"""Drawing function, usual height in metres, and ratio of width to height of each silhouette."""


def _waves(rng: np.random.Generator, bands: float) -> Field:
    """Make a slightly wavy field that rises by ``bands`` across the square in a random direction."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    bend = np.float32(rng.uniform(0, 0.06)) * fbm(rng, (SIDE, SIDE), SIDE / 3, 1)
    return ((x * np.cos(angle) + y * np.sin(angle) + bend) * bands).astype(np.float32)


def _stripes(rng: np.random.Generator) -> Field:
    return (np.mod(_waves(rng, rng.uniform(3, 10)), 1) < rng.uniform(0.35, 0.65)).astype(np.float32)


def _checkers(rng: np.random.Generator) -> Field:
    y, x = np.mgrid[:SIDE, :SIDE] // round(SIDE / rng.uniform(4, 9))
    return ((x + y) % 2).astype(np.float32)


def _dots(rng: np.random.Generator) -> Field:
    pitch = SIDE / rng.uniform(4, 9)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / pitch
    x = x + 0.5 * (np.floor(y) % 2)
    return ((np.mod(x, 1) - 0.5) ** 2 + (np.mod(y, 1) - 0.5) ** 2 < rng.uniform(0.05, 0.14)).astype(np.float32)


def _patches(rng: np.random.Generator) -> Field:
    return (fbm(rng, (SIDE, SIDE), SIDE / rng.uniform(4, 9), 2) > rng.uniform(-0.4, 0.6)).astype(np.float32)


def _fur(rng: np.random.Generator) -> Field:
    strands = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE), dtype=np.float32), (0, 0), 0.8, sigmaY=5)
    return np.clip(0.5 + 1.6 * strands, 0, 1)


def _zigzag(rng: np.random.Generator) -> Field:
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j] * rng.uniform(4, 8)
    return (np.mod(y + np.abs(np.mod(x, 1) - 0.5), 1) < 0.5).astype(np.float32)


def _planks(rng: np.random.Generator) -> Field:
    board = np.mod(np.linspace(0, rng.uniform(3, 7), SIDE, dtype=np.float32), 1)[:, None] > 0.1
    grain = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE), dtype=np.float32), (0, 0), 8, sigmaY=0.7)
    return np.clip(board * (0.8 + 2.0 * grain), 0, 1).astype(np.float32)


_PATTERNS = (_stripes, _checkers, _dots, _patches, _fur, _zigzag, _planks)


def sample_pattern(rng: np.random.Generator) -> Field:
    """Draw a pattern of two unlit RGB colours, 0..255. Shape ``(128, 128, 3)``."""
    mix = _PATTERNS[rng.integers(len(_PATTERNS))](rng)[..., None]
    colours = rng.uniform(20, 240, (2, 3)).astype(np.float32)
    colours[1] = np.where(np.abs(colours[1] - colours[0]).sum() < 120, 255 - colours[0], colours[1])
    return (colours[0] + mix * (colours[1] - colours[0])).astype(np.float32)
