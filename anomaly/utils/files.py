"""Atomic writing: a file, or the output of a run, appears when it is complete; a failed run changes nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly.errors import InputError


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file that appears whole or not at all: to a hidden file beside it, which is then moved into place.

    Args:
        path: The file; its folder exists.
        content: The content: text (written as UTF-8), bytes, or a function that writes to the path it receives. That
            path has the same suffix.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged(out: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield an empty folder to write to; when the block succeeds, its entries are moved into ``out``.

    Only the entries ``names`` of ``out`` are touched: written ones replace existing ones, and existing ones that were
    not written are removed, so that ``out`` never mixes two runs. If the block raises an error, ``out`` stays unchanged
    (and is not created), and the temporary folder is removed.

    Args:
        out: The folder to fill; created with its parents if missing.
        names: All files and folders that a run may write; the one that marks it as complete comes last.

    Raises:
        InputError: ``out`` is a file, or it (or its nearest existing parent) cannot be written to.
    """
    parent = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=parent))
    except OSError as error:
        raise InputError(
            f"output {out}: expected a folder that can be written to, found {parent} ({error.strerror}); choose another"
        ) from error
    new, old = stage / "new", stage / "old"
    new.mkdir()
    old.mkdir()
    try:
        yield new
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (out / name).exists():
                os.replace(out / name, old / name)
            if (new / name).exists():
                os.replace(new / name, out / name)
    except BaseException:
        for path in old.glob("*"):  # interrupted while moving: restore what was not replaced yet
            if not (out / path.name).exists():
                os.replace(path, out / path.name)
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)  # another process of the same run may be removing it too
