"""All or nothing: a file or a run's output appears when it is whole, and a failed run leaves what was there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly.errors import InputError


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file that appears whole or not at all: to a hidden name beside it, then moved into place.

    Args:
        path: The file; its folder exists.
        content: What to write, text as UTF-8; or a function that writes to the path it is given.

    Raises:
        OSError: It cannot be written; nothing is left behind.
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
    """Give an empty folder to write in; when the block ends well, its entries are moved into ``out``.

    Of ``out`` only ``names`` (files or folders) are touched: those written replace those there, those not
    written are removed, so that ``out`` holds one run and no mixture of two. When the block raises, ``out``
    is as it was (not made, if it was missing) and the temporary folder is gone.

    Args:
        out: The folder to fill; made with its parents if missing.
        names: Everything a run may write, the one that says it is complete last.

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
        for path in old.iterdir():  # cut short while moving: put back what has no successor yet
            if not (out / path.name).exists():
                os.replace(path, out / path.name)
        raise
    finally:
        shutil.rmtree(stage)
