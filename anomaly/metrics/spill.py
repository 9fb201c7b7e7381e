"""A temporary file for arrays that do not fit into memory; it vanishes when it is closed or when the process ends."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError


@dataclass(frozen=True)
class Stored:
    """Position of an array in a :class:`SpillFile`: its first byte, type and shape."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class SpillFile:
    """A temporary file without a name, so that nothing is left behind, whatever happens to the process.

    Several threads may read at the same time; only one may write.

    Args:
        folder: Folder whose disk space is used; by default the system's folder for temporary files.

    Raises:
        InputError: The folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder or tempfile.gettempdir())
        try:
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115  lives as long as self
        except OSError as error:
            raise InputError(
                f"{self.folder}: expected a folder for temporary files, found an error: {error.strerror}; give another "
                "folder, or raise the memory budget"
            ) from error
        self._end = 0

    def write(self, array: npt.NDArray[Any]) -> Stored:
        """Append an array.

        Returns:
            Its position in the file.

        Raises:
            InputError: The disk is full, or a limit on file sizes is reached. Arrays written before stay readable.
        """
        stored = Stored(self._end, array.dtype, array.shape)
        data = _bytes(np.ascontiguousarray(array))
        try:
            self._write(data)
        except OSError as error:
            raise InputError(
                f"{self.folder}: expected room for {array.nbytes:,} more bytes of temporary data after "
                f"{self._end:,} written, found an error: {error.strerror}; free some space, give a folder on a larger "
                "disk, or raise the memory budget"
            ) from error
        self._end += array.nbytes
        return stored

    def read(self, stored: Stored, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read the elements ``start:stop`` of an array as a flat array; ``stored.shape`` is its original shape."""
        stop = stored.size if stop is None else stop
        values = np.empty(stop - start, stored.dtype)
        data, offset = _bytes(values), stored.offset + start * stored.dtype.itemsize
        while data:
            count = os.preadv(self._file.fileno(), [data], offset)
            data, offset = data[count:], offset + count
        return values

    def _write(self, data: memoryview) -> None:
        self._file.seek(self._end)
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data
