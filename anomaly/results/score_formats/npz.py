"""One array in a ``.npz`` file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.results.score_formats.base import Format

NAMES = ("score", "value", "anomaly", "arr_0")
LIMIT = 1 << 31  # bytes, more than the map of any image


def read(path: Path) -> npt.NDArray[Any]:
    """Read the only array, or the one whose name is one of ``NAMES``; pickled objects are refused."""
    try:
        with zipfile.ZipFile(path) as members:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in members.infolist()}
        chosen = list(sizes) if len(sizes) == 1 else [name for name in NAMES if name in sizes]
        if len(chosen) != 1:
            raise InputError(
                f"{path}: expected one array, or one named {', '.join(NAMES)}, found "
                f"{', '.join(sizes) or 'none'}; write only the score map"
            )
        if sizes[chosen[0]] > LIMIT:
            raise InputError(
                f"{path}: expected a score map, found {sizes[chosen[0]]} bytes; write the map of one frame"
            )
        with np.load(path, allow_pickle=False) as arrays:
            array: npt.NDArray[Any] = arrays[chosen[0]]
            return array
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected a complete .npz file with numbers, found another ({error}); write it again"
        ) from error


FORMAT = Format("npz", read)
