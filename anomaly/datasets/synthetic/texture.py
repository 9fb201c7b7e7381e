"""Noise and patterns."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]


def fbm(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 3) -> Field:
    """Sum smooth noises, each with half the grain and 0.55 times the strength of the previous one.

    Args:
        rng: Random generator.
        shape: Height and width of the result.
        cell: Grain of the coarsest noise in pixels.
        octaves: Number of noises.

    Returns:
        Noise with a mean of about 0 and a standard deviation of about 1. Shape ``(h, w)``.
    """
    h, w = shape
    total = np.zeros(shape, np.float32)
    strength = 1.0
    for _ in range(octaves):
        grid = rng.standard_normal((max(2, round(h / cell) + 1), max(2, round(w / cell) + 1)), dtype=np.float32)
        total += strength * cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
        strength *= 0.55
        cell = max(1.0, cell / 2)
    return total


@lru_cache(maxsize=4)
def noise_tile(cell: float) -> Field:
    """Return a fixed seamless tile of noise with standard deviation 1. Shape ``(512, 512)``; do not write to it."""
    rng = np.random.default_rng(round(cell * 1000))
    noise = rng.standard_normal((512, 512), dtype=np.float32)
    if not cell:
        return noise
    smooth = cv2.GaussianBlur(np.tile(noise, (3, 3)), (0, 0), cell)[512:1024, 512:1024]
    return np.ascontiguousarray(smooth / smooth.std())


def tiled(tile: Field, rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Cut a piece from a random position of a seamless tile, repeated as needed. Shape ``(h, w)``."""
    top, left = rng.integers(0, tile.shape, 2)
    rows = (np.arange(shape[0]) + top) % tile.shape[0]
    columns = (np.arange(shape[1]) + left) % tile.shape[1]
    return tile[rows][:, columns]


def sample_tile(tile: Field, x: Field, y: Field) -> Field:
    """Sample a seamless tile at the positions ``(x, y)``, which broadcast to one shape."""
    x, y = np.broadcast_arrays(np.mod(x, tile.shape[1] - 1), np.mod(y, tile.shape[0] - 1))
    return cv2.remap(tile, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
