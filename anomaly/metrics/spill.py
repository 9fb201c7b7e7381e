"""A place on disk for what does not fit into memory, gone when it is closed or when the process dies."""

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
    """Where an array lies in a :class:`SpillFile`: its first byte, its type and its shape."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class SpillFile:
    """A temporary file without a name, so that nothing is left of it, whatever happens to the process.

    Reading is safe from several threads; writing is for one.

    Args:
        folder: Where the disk space is taken; the system's folder for temporary files by default.

    Raises:
        InputError: The folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder or tempfile.gettempdir())
        try:
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115  lives as long as this
        except OSError as error:
            raise InputError(
                f"{self.folder}: expected a folder that can hold temporary files, found: {error.strerror}; "
                "name another folder, or raise the memory budget"
            ) from error
        self._end = 0

    def write(self, array: npt.NDArray[Any]) -> Stored:
        """Append an array.

        Raises:
            InputError: The disk is full, or a limit on file sizes is reached. What was written before stays readable.
        """
        stored = Stored(self._end, array.dtype, array.shape)
        data = _bytes(np.ascontiguousarray(array))
        try:
            self._write(data)
        except OSError as error:
            raise InputError(
                f"{self.folder}: expected room for {array.nbytes:,} more bytes of temporary data beside "
                f"{self._end:,} written, found: {error.strerror}; free some space, name a folder on a larger disk, "
                "or raise the memory budget"
            ) from error
        self._end += array.nbytes
        return stored

    def read(self, stored: Stored, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read the elements ``start:stop`` of an array, flat; ``stored.shape`` has its shape."""
        stop = stored.size if stop is None else stop
        found = np.empty(stop - start, stored.dtype)
        data, offset = _bytes(found), stored.offset + start * stored.dtype.itemsize
        while data:
            count = os.preadv(self._file.fileno(), [data], offset)
            data, offset = data[count:], offset + count
        return found

    def _write(self, data: memoryview) -> None:
        self._file.seek(self._end)
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data
