"""The interface of a file format, and the checks of a score map."""

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
    """Check the scores of the smallest and the largest integer.

    Raises:
        InputError: They are not two finite numbers, the smaller one first.
    """
    if values is None:
        return None
    if isinstance(values, str) or len(values) != 2:
        raise InputError(f"scale: expected two scores, the smaller one first, found {values!r}; correct them")
    low, high = (real("scale", value, "two scores") for value in values)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"scale: expected two finite scores, the smaller one first, found {low} and {high}; correct them"
        )
    return low, high


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        name: Name of the format.
        read: Reads the array of a file; raises ``InputError`` if the file is damaged.
    """

    name: str
    read: Callable[[Path], npt.NDArray[Any]]


def as_map(path: Path, array: npt.NDArray[Any], scale: Scale | None) -> npt.NDArray[np.floating[Any]]:
    """Convert the array of a file to a score map; axes of length 1 are dropped.

    Args:
        path: The file, for messages.
        array: The array.
        scale: For integers: the scores of the smallest and of the largest integer.

    Raises:
        InputError: It is not a map of real numbers, or holds integers without a scale.
    """
    shape = array.shape
    if array.ndim > 2 and sorted(shape)[:-2] == [1] * (array.ndim - 2):
        array = array.squeeze(tuple(i for i, n in enumerate(shape) if n == 1)[: array.ndim - 2])
    if array.ndim != 2 or array.dtype.kind not in "fiub" or array.dtype.itemsize > 8 or not array.size:
        raise InputError(
            f"{path}: expected one score map (H, W) of real numbers, found {array.dtype} of shape {shape}; write "
            "only the map of one frame"
        )
    if array.dtype.kind == "f":
        if scale is not None:
            raise InputError(
                f"{path}: expected integers, because a scale is given, found {array.dtype}; omit the scale"
            )
        return np.ascontiguousarray(array, np.float64 if array.dtype.itemsize == 8 else np.float32)
    if scale is None:
        raise InputError(
            f"{path}: expected scores, found integers ({array.dtype}), which need a scale; give "
            "the scores of the smallest and the largest integer (--score-scale LOW HIGH)"
        )
    low, high = scale
    limits = np.iinfo(array.dtype if array.dtype.kind != "b" else np.uint8)
    smallest, largest = (0, 1) if array.dtype.kind == "b" else (int(limits.min), int(limits.max))
    return low + (high - low) * ((array.astype(np.float64) - smallest) / (largest - smallest))
