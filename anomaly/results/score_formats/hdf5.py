"""SegmentMeIfYouCan's files: one dataset ``value`` in an HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.results.score_formats.base import Format

NAME = "value"
LIMIT = 1 << 31  # bytes: more than any image's map


def read(path: Path) -> npt.NDArray[Any]:
    """Read the dataset; links, and data that lie in other files, are refused."""
    import h5py  # takes a quarter of a second, and few need it

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(NAME, getlink=True), h5py.HardLink) or not isinstance(file[NAME], h5py.Dataset):
                raise InputError(
                    f"{path}: expected a dataset {NAME!r} in it, found {', '.join(file) or 'nothing'}; write the "
                    "map under that name"
                )
            data = file[NAME]
            if data.is_virtual or data.external or data.dtype.kind not in "fiub":
                raise InputError(
                    f"{path}: expected numbers in this very file, found {data.dtype} elsewhere; write them anew"
                )
            if data.nbytes > LIMIT:
                raise InputError(f"{path}: expected a score map, found {data.nbytes} bytes; write the map of one frame")
            array: npt.NDArray[Any] = np.asarray(data[()])
            return array
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected a whole HDF5 file, found one that cannot be read ({error})") from error


FORMAT = Format("hdf5", read)
