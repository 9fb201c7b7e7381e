"""Downloads that resume where they stopped; a file gets its name only when it is complete and checked."""

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
_PAUSE = 1.0  # seconds before the second try, doubled for each further one
_AGAIN = "run the same command again, which continues from there"


@dataclass(frozen=True)
class Download:
    """A published file, with its size and checksums if they are known.

    Args:
        url: Address, http or https.
        file: Name to save it under, without folders.
        size: Length in bytes, if it is known.
        sha256: SHA-256 checksum in hexadecimal, if it is published.
        md5: MD5 checksum in hexadecimal, if it is published; checked in addition.

    Raises:
        InputError: ``url`` is not an http or https address, or ``file`` is not a plain name.
    """

    url: str
    file: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        if not self.url.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise InputError(
                f"url: expected an address that begins with http:// or https://, found {self.url!r}; correct it"
            )
        if self.file in {"", ".", ".."} or re.search(r"[/\\\0]", self.file):
            raise InputError(f"file: expected the plain name of a file, found {self.file!r}; give it without folders")


def fetch(
    download: Download,
    folder: Path,
    *,
    on_progress: Progress | None = None,
    timeout: float = 30.0,
) -> Path:
    """Download a file into a folder, or check the file that is there already.

    Until it is complete and checked, the file is named ``NAME.part``, and ``NAME.part.json`` identifies its version.
    A failed connection is resumed a few times. A part that an earlier run left, even one that was killed, is resumed
    too, if the server can send the rest and if the version is the same (address, ETag, Last-Modified, size). If the
    server sends neither ETag nor Last-Modified and no checksum is known, versions cannot be compared, and the download
    starts over.

    Without ``size``, ``sha256`` and ``md5``, only the length that the server announces is checked;
    :func:`sha256_of` computes a checksum. Proxies are those of the environment (``http_proxy``, ``https_proxy``,
    ``no_proxy``).

    Args:
        download: The file to download.
        folder: Folder for the file; made with its parents if missing.
        on_progress: Called with the bytes received and the bytes in total (``None`` if unknown), at the start and after
            every block.
        timeout: Seconds without an answer after which a connection counts as failed.

    Returns:
        Path of the file, ``folder / download.file``.

    Raises:
        InputError: A different file of that name exists; the server cannot be reached, refuses, redirects to another
            protocol, sends a web page instead of an archive, more bytes than announced or expected, or another file
            than expected (its part is removed); the connection fails repeatedly (the part is kept); or the disk is full
            or cannot be written.
    """
    target = folder / download.file
    partial = _Partial(target)
    with _disk(target):
        there = target.exists()
        folder.mkdir(parents=True, exist_ok=True)
    if there:
        _check(target, download, f"move it away and run the same command again to download {download.url}")
        partial.discard()  # left by a run that was killed just before its end
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
        _check(partial.data, download, f"the part is removed; check whether {download.url} is still the published file")
    except InputError:
        partial.discard()
        raise
    with _disk(target):
        os.replace(partial.data, target)
    partial.discard()
    return target


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 checksum of a file of any size, in lower-case hexadecimal.

    Raises:
        InputError: The file cannot be read.
    """
    return _digest(path, "sha256")


class _Partial:
    """An incomplete download: its bytes so far, and the version of the published file that they belong to."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.data = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        return self.data.stat().st_size if self.data.exists() else 0

    def version(self) -> dict[str, Any]:
        """Read the noted version; empty if the note is missing or incomplete."""
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
            self.data.unlink(missing_ok=True)  # before the note, because a part without a note is never resumed
            self.note.unlink(missing_ok=True)


def _receive(download: Download, partial: _Partial, on_progress: Progress | None, timeout: float) -> None:
    """Complete the part, or raise ``Cut`` and keep the bytes received so far."""
    known = partial.version()
    recognised = known.get("etag") or known.get("modified") or download.sha256 or download.md5
    start = partial.size() if recognised and known.get("url") == download.url else 0
    if start and start == known.get("total"):
        return
    with answer(download.url, start, timeout) as reply:
        if reply.begin and any(known.get(key) not in (None, value) for key, value in reply.version.items()):
            raise Stale("the file on the server has changed")
        first = next(reply.blocks, b"")
        _refuse_page(download, reply.content_type, b"" if reply.begin else first)
        if None not in (reply.total, download.size) and reply.total != download.size:
            raise InputError(
                f"{download.url}: expected {download.size} bytes, found that the server announces {reply.total}; check "
                "whether this is still the published file"
            )
        if not reply.begin:  # not earlier, because the existing part may still be valid
            partial.begin(reply.version)
        expected = download.size if reply.total is None else reply.total
        _append(chain([first], reply.blocks), reply.begin, expected, partial, on_progress)


def _append(
    blocks: Iterable[bytes], have: int, expected: int | None, partial: _Partial, on_progress: Progress | None
) -> None:
    """Append blocks to the part, which has ``have`` bytes; stop as soon as it exceeds the expected length."""
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
                    f"{partial.target}: expected {expected} bytes, found that the server sends more; check whether the "
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
        raise Stale("another process writes to the same file")


def _refuse_page(download: Download, content_type: str, head: bytes) -> None:
    is_page = content_type == "text/html" or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    if is_page and download.file.lower().endswith(_ARCHIVES):
        raise InputError(
            f"{download.url}: expected the archive {download.file}, found a web page; the link is dead or needs a "
            f"login: download the file with a browser and save it as {download.file}"
        )


def _refuse_small_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(f"{path}: expected room for {needed} bytes, found {free} free; free some space, then {_AGAIN}")


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: expected a file that can be written, found an error: {error.strerror or error}; free some space "
            f"or choose another folder, then {_AGAIN}"
        ) from error


def _check(path: Path, download: Download, remedy: str) -> None:
    """Compare a file with its known size and checksums; without them, it must at least not be empty."""
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
        raise InputError(
            f"{path}: expected a file that can be read, found an error: {error.strerror}; check the path"
        ) from error
    return digest.hexdigest()
