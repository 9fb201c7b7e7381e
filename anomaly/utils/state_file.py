"""What is kept on disk: a header in JSON and plain arrays, in one ``.npz`` file that anyone can open with numpy."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.utils.given import plain

METRICS = "pixel metrics"
VERSION = 1
HEADER = "header"
# What reading a file that is cut short, damaged or made to do harm can raise.
_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, MemoryError),
    *(OverflowError, StopIteration, RecursionError, NotImplementedError, RuntimeError),
)


def write_state(path: Path, header: dict[str, Any], arrays: Iterable[npt.NDArray[Any]], kind: str = METRICS) -> None:
    """Write a state; the file appears whole or not at all.

    Args:
        path: Ends in ``.npz``.
        header: What JSON can hold; see :func:`anomaly.utils.given.plain`.
        arrays: Written one at a time, as ``array_000000`` and so on.
        kind: What the state is of.

    Raises:
        InputError: The name has another ending, the header has something else in it, or the file cannot be written.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: a state's file name ends in .npz; name it so")
    text = json.dumps(plain({"format": kind, "version": VERSION, **header})).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
            _write(file, HEADER, np.frombuffer(text, np.uint8))
            for index, array in enumerate(arrays):
                _write(file, _name(index), array)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path}: expected a place where {kind} can be written, found: {error.strerror}; "
            "free some space, or name another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def read_state(path: Path, kind: str = METRICS) -> Iterator[tuple[dict[str, Any], Iterator[npt.NDArray[Any]]]]:
    """Open what :func:`write_state` wrote; whatever goes wrong with its contents inside the block names the file.

    Raises:
        InputError: The file is missing, cut short, damaged or something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected the state of {kind}, found no such file")
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
                raise ValueError("more arrays than the header tells of")
    except InputError as error:
        raise InputError(f"{path}: expected the state of {kind}; {error}") from error
    except _DAMAGE as error:
        raise InputError(
            f"{path}: expected the state of {kind}; it is cut short, damaged or something else ({error})"
        ) from error


def _write(file: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _read(file: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with file.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _name(index: int) -> str:
    return f"array_{index:06d}"
