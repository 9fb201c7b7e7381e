"""SegmentMeIfYouCan's files: one dataset ``value`` in an HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.results.score_formats.base import Format

NAME = "value"
LIMIT = 1 << 31  # bytes, more than the map of any image


def read(path: Path) -> npt.NDArray[Any]:
    """Read the dataset; links, and data stored in other files, are refused."""
    import h5py  # the import takes a quarter of a second, and is rarely needed

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(NAME, getlink=True), h5py.HardLink) or not isinstance(file[NAME], h5py.Dataset):
                raise InputError(
                    f"{path}: expected a dataset {NAME!r} in it, found {', '.join(file) or 'nothing'}; write the "
                    "map under this name"
                )
            data = file[NAME]
            if data.is_virtual or data.external or data.dtype.kind not in "fiub":
                raise InputError(
                    f"{path}: expected numbers stored in this file, found {data.dtype} or data elsewhere; write the "
                    "file again"
                )
            if data.nbytes > LIMIT:
                raise InputError(f"{path}: expected a score map, found {data.nbytes} bytes; write the map of one frame")
            array: npt.NDArray[Any] = np.asarray(data[()])
            return array
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected a complete HDF5 file, found one that cannot be read ({error}); write it again"
        ) from error


FORMAT = Format("hdf5", read)
