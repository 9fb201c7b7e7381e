"""State files: a JSON header and plain arrays in one ``.npz`` file that numpy can open."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.utils.files import write_whole
from anomaly.utils.given import plain

METRICS = "pixel metrics"
VERSION = 1
HEADER = "header"
# Errors that reading a truncated, damaged or malicious file can raise.
_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, MemoryError),
    *(OverflowError, StopIteration, RecursionError, NotImplementedError, RuntimeError),
)


def write_state(path: Path, header: dict[str, Any], arrays: Iterable[npt.NDArray[Any]], kind: str = METRICS) -> None:
    """Write a state file; it appears whole or not at all.

    Args:
        path: The file; ends in ``.npz``.
        header: Values that JSON can represent; see :func:`anomaly.utils.given.plain`.
        arrays: Arrays, written one at a time as ``array_000000`` and so on.
        kind: What the state belongs to, such as ``"pixel metrics"``; the reader checks it.

    Raises:
        InputError: The file name has another suffix, the header holds something else, or the file cannot be written.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: expected a file name that ends in .npz; choose such a name")
    text = json.dumps(plain({"format": kind, "version": VERSION, **header})).encode()

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
            _write(file, HEADER, np.frombuffer(text, np.uint8))
            for index, array in enumerate(arrays):
                _write(file, _name(index), array)

    try:
        write_whole(path, write)
    except OSError as error:
        raise InputError(
            f"{path}: expected a place where {kind} can be written, found: {error.strerror}; "
            "free some space, or name another place"
        ) from error


@contextmanager
def read_state(path: Path, kind: str = METRICS) -> Iterator[tuple[dict[str, Any], Iterator[npt.NDArray[Any]]]]:
    """Open a file of :func:`write_state`. Errors about its contents inside the block name the file.

    Args:
        path: The file.
        kind: What the state belongs to.

    Yields:
        The header and an iterator over the arrays.

    Raises:
        InputError: The file is missing, truncated, damaged or something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected the state of {kind}, found no such file; check the path")
    try:
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("compressed data, which may be far larger than the file")
            header = json.loads(_read(file, HEADER).tobytes())
            if header["format"] != kind:
                raise ValueError("another format")
            if header["version"] != VERSION:
                raise InputError(
                    f"expected version {VERSION}, found {header['version']!r}; save it again with this "
                    "version of the software"
                )
            arrays = (_read(file, _name(index)) for index in range(len(file.infolist()) - 1))
            yield header, arrays
            if next(arrays, None) is not None:
                raise ValueError("more arrays than the header announces")
    except InputError as error:
        raise InputError(f"{path}: expected the state of {kind}; {error}") from error
    except _DAMAGE as error:
        raise InputError(
            f"{path}: expected the state of {kind}, found a file that is truncated, damaged or something else "
            f"({error}); "
            "write it again"
        ) from error


def _write(file: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _read(file: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with file.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _name(index: int) -> str:
    return f"array_{index:06d}"
