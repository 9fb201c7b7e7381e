"""What every format gives, and what a map has to be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.utils.given import real

Scale = tuple[float, float]


def check_scale(values: Sequence[float] | None) -> Scale | None:
    """What the least and the largest integer mean.

    Raises:
        InputError: Not two finite numbers, the smaller one first.
    """
    if values is None:
        return None
    if isinstance(values, str) or len(values) != 2:
        raise InputError(f"scale: expected two scores, the smaller one first, found {values!r}")
    low, high = (real("scale", value, "two scores") for value in values)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"scale: expected two finite scores, the smaller one first, found {low} and {high}")
    return low, high


@dataclass(frozen=True)
class Format:
    """How files of one kind are read.

    Args:
        name: What to call it.
        read: Takes a file and gives the array in it; raises ``InputError`` where it is broken.
    """

    name: str
    read: Callable[[Path], npt.NDArray[Any]]


def as_map(path: Path, array: npt.NDArray[Any], scale: Scale | None) -> npt.NDArray[np.floating[Any]]:
    """Make a score map of what a file holds; axes of length 1 around it do not count.

    Raises:
        InputError: It is no map of real numbers, or one of integers without a scale.
    """
    shape = array.shape
    if array.ndim > 2 and sorted(shape)[:-2] == [1] * (array.ndim - 2):
        array = array.squeeze(tuple(i for i, n in enumerate(shape) if n == 1)[: array.ndim - 2])
    if array.ndim != 2 or array.dtype.kind not in "fiub" or array.dtype.itemsize > 8 or not array.size:
        raise InputError(
            f"{path}: expected one score map (H, W) of real numbers, found {array.dtype} of shape {shape}; write "
            "the map of one frame alone"
        )
    if array.dtype.kind == "f":
        if scale is not None:
            raise InputError(f"{path}: expected integers, which a scale is for, found {array.dtype}; leave it out")
        return np.ascontiguousarray(array, np.float64 if array.dtype.itemsize == 8 else np.float32)
    if scale is None:
        raise InputError(
            f"{path}: expected scores, found integers ({array.dtype}), which mean nothing without a scale; say "
            "which scores the smallest and the largest integer stand for (--score-scale LOW HIGH)"
        )
    low, high = scale
    limits = np.iinfo(array.dtype if array.dtype.kind != "b" else np.uint8)
    smallest, largest = (0, 1) if array.dtype.kind == "b" else (int(limits.min), int(limits.max))
    return low + (high - low) * ((array.astype(np.float64) - smallest) / (largest - smallest))
