"""File formats of score maps, by the suffix of the file. A new format is a file here and a line of ``READERS``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.results.score_formats import hdf5, npy, npz, picture
from anomaly.results.score_formats.base import Format, Scale, as_map

__all__ = ["READERS", "Format", "Scale", "read_map"]

READERS: dict[str, Format] = {
    ".npy": npy.FORMAT,
    ".npz": npz.FORMAT,
    ".png": picture.PNG,
    ".tif": picture.TIFF,
    ".tiff": picture.TIFF,
    ".hdf5": hdf5.FORMAT,
    ".h5": hdf5.FORMAT,
}


def read_map(path: Path, scale: Scale | None = None) -> npt.NDArray[np.floating[Any]]:
    """Read a score map, by the suffix of its file. Shape: ``(H, W)``, float32 or float64.

    Args:
        path: The file.
        scale: For integers: the scores of the smallest and of the largest integer.

    Raises:
        InputError: The suffix is unknown, or the file is damaged, holds something else, or integers without a scale.
    """
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path}: expected a file that ends in {', '.join(READERS)}, found another; convert it")
    return as_map(path, READERS[path.suffix.lower()].read(path), scale)
