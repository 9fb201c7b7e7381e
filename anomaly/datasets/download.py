"""Published files, fetched whole: resumed where they stopped, checked, and only then in place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from anomaly.datasets.byte_ranges import SCHEMES, Cut, Stale, answer
from anomaly.errors import InputError

Progress = Callable[[int, int | None], None]

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")
_TRIES = 5
_PAUSE = 1.0  # seconds before the second try; doubled with each further one
_AGAIN = "run the same command again, it goes on from what is there"


@dataclass(frozen=True)
class Download:
    """A published file and what is known about it.

    Args:
        url: Where it is; http or https.
        file: Name to save it under, without any folder.
        size: Length in bytes, where it is known.
        sha256: Its checksum in hexadecimal, where it is published.
        md5: Likewise; checked in addition.

    Raises:
        InputError: ``url`` is not of http or https, or ``file`` is not a plain name.
    """

    url: str
    file: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        if not self.url.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise InputError(f"url: expected an address that begins with http:// or https://, found {self.url!r}")
        if self.file in {"", ".", ".."} or re.search(r"[/\\\0]", self.file):
            raise InputError(f"file: expected the plain name of a file, found {self.file!r}; leave folders out of it")


def fetch(
    download: Download,
    folder: Path,
    *,
    on_progress: Progress | None = None,
    timeout: float = 30.0,
) -> Path:
    """Fetch a file into a folder, or find it there; it has its name only when it is whole and checked.

    Until then it is ``NAME.part``, with a note of its version beside it (``NAME.part.json``). A connection that is
    cut is taken up again a few times, and so is a part that an earlier run left, SIGKILL included: if the server can
    send the rest, and if the version is still the same (address, ETag, Last-Modified, size). Where a server tells
    neither ETag nor Last-Modified and no checksum is known, versions cannot be told apart, so it starts over.

    Without ``size``, ``sha256`` and ``md5`` only the length that the server announces is checked; see ``sha256_of``.
    Proxies are those of the environment (``http_proxy``, ``https_proxy``, ``no_proxy``).

    Args:
        download: What to fetch.
        folder: Where to; made with its parents if missing.
        on_progress: Called with the bytes there are and the bytes there will be (None if unknown), at the start and
            after every block.
        timeout: Seconds without any answer after which a connection counts as cut.

    Returns:
        The file: ``folder / download.file``.

    Raises:
        InputError: A file of that name is there but is another one; the server cannot be reached, refuses, leads to
            something other than http(s), sends a web page for an archive, more bytes than announced or expected, or
            another file than expected (its part is removed); the connection fails again and again (the part stays);
            or the disk is full or cannot be written.
    """
    target = folder / download.file
    partial = _Partial(target)
    with _disk(target):
        there = target.exists()
        folder.mkdir(parents=True, exist_ok=True)
    if there:
        _check(target, download, f"move it away and run the same command again to fetch {download.url}")
        partial.discard()  # what a run that was killed at its very end left
        return target
    for again in range(_TRIES):
        if again:
            time.sleep(_PAUSE * 2 ** (again - 1))
        try:
            _receive(download, partial, on_progress, timeout)
            break
        except Stale as stale:
            partial.discard()
            failure = str(stale)
        except Cut as cut:
            failure = str(cut)
    else:
        raise InputError(
            f"{download.url}: expected the whole file, found a connection that failed {_TRIES} times ({failure}) with "
            f"{partial.size()} bytes in {partial.data}; {_AGAIN}"
        )
    try:
        _check(partial.data, download, f"the part is removed; see whether {download.url} is still the published file")
    except InputError:
        partial.discard()
        raise
    with _disk(target):
        os.replace(partial.data, target)
    partial.discard()
    return target


def sha256_of(path: Path) -> str:
    """Give the SHA-256 checksum of a file of any size, in lower-case hexadecimal.

    Raises:
        InputError: The file cannot be read.
    """
    return _digest(path, "sha256")


class _Partial:
    """A file on its way: its bytes so far, and the version of the published file that they belong to."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.data = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        return self.data.stat().st_size if self.data.exists() else 0

    def version(self) -> dict[str, Any]:
        """Give the noted version; of a note that is missing or cut short, an empty one."""
        try:
            version = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return version if isinstance(version, dict) else {}

    def begin(self, version: dict[str, Any]) -> None:
        self.discard()
        with _disk(self.note):
            self.note.write_text(json.dumps(version), encoding="utf-8")

    def discard(self) -> None:
        with _disk(self.data):
            self.data.unlink(missing_ok=True)  # before the note: a part without a note is never gone on with
            self.note.unlink(missing_ok=True)


def _receive(download: Download, partial: _Partial, on_progress: Progress | None, timeout: float) -> None:
    """Bring the part to its full length, or raise ``Cut`` with what there is so far on disk."""
    known = partial.version()
    recognised = known.get("etag") or known.get("modified") or download.sha256 or download.md5
    start = partial.size() if recognised and known.get("url") == download.url else 0
    if start and start == known.get("total"):
        return
    with answer(download.url, start, timeout) as got:
        if got.begin and any(known.get(key) not in (None, value) for key, value in got.version.items()):
            raise Stale("the file on the server has changed")
        first = next(got.blocks, b"")
        _refuse_page(download, got.content_type, b"" if got.begin else first)
        if None not in (got.total, download.size) and got.total != download.size:
            raise InputError(
                f"{download.url}: expected {download.size} bytes, found that the server announces {got.total}; see "
                "whether this is still the published file"
            )
        if not got.begin:  # only now: until here a part that is there may still be good
            partial.begin(got.version)
        expected = download.size if got.total is None else got.total
        _append(chain([first], got.blocks), got.begin, expected, partial, on_progress)


def _append(
    blocks: Iterable[bytes], have: int, expected: int | None, partial: _Partial, on_progress: Progress | None
) -> None:
    """Write a body to the end of the part, which has ``have`` bytes; stop as soon as it exceeds what is expected."""
    _refuse_small_disk(partial.data, (expected or 0) - have)
    with _disk(partial.data):
        stream = partial.data.open("ab", buffering=0)
    with stream:
        if on_progress is not None:
            on_progress(have, expected)
        for block in blocks:
            have += len(block)
            if expected is not None and have > expected:
                partial.discard()
                raise InputError(
                    f"{partial.target}: expected {expected} bytes, found that the server sends more; see whether the "
                    "address still leads to the published file"
                )
            with _disk(partial.data):
                rest = memoryview(block)
                while rest:
                    rest = rest[stream.write(rest) :]
            if on_progress is not None:
                on_progress(have, expected)
    if expected is not None and have < expected:
        raise Cut(f"closed after {have} of {expected} bytes")
    if partial.size() != have:
        raise Stale("another process writes to the same part")


def _refuse_page(download: Download, content_type: str, head: bytes) -> None:
    is_page = content_type == "text/html" or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    if is_page and download.file.lower().endswith(_ARCHIVES):
        raise InputError(
            f"{download.url}: expected the archive {download.file}, found a web page; the link is dead or needs a "
            f"login: fetch the file with a browser and save it as {download.file}"
        )


def _refuse_small_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(f"{path}: expected room for {needed} bytes, found {free} free; make room, then {_AGAIN}")


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: expected a file that can be written, found {error.strerror or error}; make room or choose "
            f"another folder, then {_AGAIN}"
        ) from error


def _check(path: Path, download: Download, remedy: str) -> None:
    """Compare a file with what is known about it; where nothing is, it must at least not be empty."""
    if not path.is_file():
        raise InputError(f"{path}: expected a file, found something else; {remedy}")
    size = path.stat().st_size
    if download.size not in (None, size) or (download.size is None and size == 0):
        raise InputError(f"{path}: expected {download.size or 'some'} bytes, found {size}; {remedy}")
    for kind, expected in (("sha256", download.sha256), ("md5", download.md5)):
        if expected is not None and (found := _digest(path, kind)) != expected.lower():
            raise InputError(f"{path}: expected {kind} {expected.lower()}, found {found}; {remedy}")


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: expected a file that can be read, found {error.strerror}") from error
    return digest.hexdigest()
