"""Safe unpacking of archives from untrusted sources, whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from anomaly.errors import InputError

_BLOCK = 1 << 18
_LONGEST_PART, _LONGEST_NAME, _DEEPEST = 255, 1024, 64
_LARGEST_EXTENSION = 1 << 20  # largest tar header with a long name or pax records, which is read at once, in bytes
_EXTENSIONS = (b"L", b"K", b"x", b"g", b"X")
_COMPRESSED: dict[bytes, Callable[[Path, Literal["rb"]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_FOLDER = None  # stands for the data of an entry that is a folder
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    RuntimeError,  # this and the following are raised while reading broken headers
    ValueError,
    ArithmeticError,
    LookupError,
)


def unpack(archive: Path, folder: Path, *, limit: int = 100 * 10**9) -> Path:
    """Unpack an archive into a folder that does not exist or is empty.

    Files are written to a hidden folder beside it, which replaces it in one step on success and is removed otherwise
    (only SIGKILL can leave it). Files get the permissions 0644 and folders 0755, whatever the archive says; times and
    owners are not kept. A single top-level folder is kept. A backslash in a name separates folders, as in archives from
    Windows.

    Args:
        archive: A zip, tar, tar.gz, tar.bz2 or tar.xz archive, recognised by its content.
        folder: Folder to unpack into; its parents are made if missing.
        limit: Largest total size of the unpacked files in bytes; free disk space is a limit too. Bytes are counted as
            they are written, whatever the headers say.

    Returns:
        ``folder``.

    Raises:
        InputError: The archive is missing, empty, damaged, truncated, encrypted or of another kind, or exceeds the
            limit; a member leads outside (an absolute name, ``..``, a drive), is not a plain file or folder, or its
            name occurs twice (in any case), is too long, too deep or contains a NUL; or ``folder`` is not empty or
            cannot be written.
    """
    target = folder.resolve()  # fills the target of a link instead of replacing the link
    if not archive.is_file():
        raise InputError(f"{archive}: expected an archive, found no file; check the path or download it again")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(
                f"{folder}: expected no folder or an empty one, found files; move them away or choose another"
            )
        parent = next(path for path in target.parents if path.exists())
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=parent) as stage:
            tree = _Tree(Path(stage) / "new", archive, min(limit, shutil.disk_usage(parent).free))
            with _readable(archive), _entries(archive, tree) as entries:
                for name, data in entries:
                    tree.add(name, data)
            if not tree.files:
                raise InputError(f"{archive}: expected at least one file, found an empty archive; download it again")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(tree.root, target)
    except OSError as error:
        raise InputError(
            f"{folder}: expected to unpack {archive} here, found that files cannot be read or written ({error}); free "
            "some space or choose another folder"
        ) from error
    return folder


class _Tree:
    """The files unpacked so far, with every name once and no byte above the limit."""

    def __init__(self, root: Path, archive: Path, room: int) -> None:
        self.root, self.archive, self.limit, self.room = root, archive, room, room
        self.files = 0
        self.seen: dict[str, str] = {}  # name in lower case -> name, ending in / if a folder
        root.mkdir()
        root.chmod(0o755)

    def refuse(self, name: str, found: str) -> InputError:
        return InputError(
            f"{self.archive}: expected only plain files and folders inside the archive's own tree, found the member "
            f"{name[:200]!r}, {found}; nothing was unpacked, get the archive from its publisher"
        )

    def spend(self, count: int) -> None:
        self.room -= count
        if self.room < 0:
            raise InputError(
                f"{self.archive}: expected at most {self.limit} bytes when unpacked (the limit, or the free disk "
                "space), found more; nothing was unpacked, free some space, or raise the limit if you trust the archive"
            )

    def add(self, name: str, data: IO[bytes] | None) -> None:
        """Write a file with its data, or make a folder if there are no data."""
        parts = self._parts(name)
        if not parts and data is _FOLDER:
            return  # "./", the top-level folder
        if not parts:
            raise self.refuse(name, "a file without a name")
        for depth in range(1, len(parts) + 1):
            self._enter(name, "/".join(parts[:depth]), is_folder=depth < len(parts) or data is _FOLDER)
        if data is not _FOLDER:
            path = self.root.joinpath(*parts)
            with path.open("xb") as stream:
                while block := data.read(_BLOCK):
                    self.spend(len(block))
                    stream.write(block)
            path.chmod(0o644)
            self.files += 1

    def _parts(self, name: str) -> list[str]:
        if "\0" in name:
            raise self.refuse(name, "with a NUL in its name")
        if re.match(r"[/\\]|[A-Za-z]:", name):
            raise self.refuse(name, "with an absolute name")
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        if ".." in parts:
            raise self.refuse(name, "which may lead outside (..)")
        sizes = [len(os.fsencode(part)) for part in parts]
        if max(sizes, default=0) > _LONGEST_PART or sum(sizes) > _LONGEST_NAME or len(parts) > _DEEPEST:
            raise self.refuse(name, "with a name that is too long or too deep")
        return parts

    def _enter(self, name: str, path: str, *, is_folder: bool) -> None:
        """Record a name, and make a new folder; a folder may occur again with the same spelling."""
        spelled = path + "/" * is_folder
        before = self.seen.get(path.lower())
        if before is not None and (before != spelled or not is_folder):
            raise self.refuse(name, f"whose name equals that of {before!r} (upper and lower case count as equal)")
        if before is None and is_folder:
            (self.root / path).mkdir()
            (self.root / path).chmod(0o755)
        self.seen[path.lower()] = spelled


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turn errors of reading an archive into ``InputError``; disk errors, which have a number, are not changed."""
    try:
        yield
    except InputError:
        raise
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{archive}: expected a complete zip, tar, tar.gz, tar.bz2 or tar.xz archive, found one that is damaged, "
            f"truncated or of another kind ({error}); remove it and download it again"
        ) from error


@contextmanager
def _entries(archive: Path, tree: _Tree) -> Iterator[Iterable[tuple[str, IO[bytes] | None]]]:
    with archive.open("rb") as raw:
        head = raw.read(6)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        with zipfile.ZipFile(archive) as zipped:
            yield _of_zip(zipped, tree)
        return
    opener: Callable[[Path, Literal["rb"]], Any] = next(
        (opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), open
    )
    with opener(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r:", tarinfo=_StrictHeader) as tar:
        yield _of_tar(tar, stream, tree)


def _of_zip(zipped: zipfile.ZipFile, tree: _Tree) -> Iterator[tuple[str, IO[bytes] | None]]:
    for info in zipped.infolist():
        name = info.orig_filename  # zipfile cuts ``filename`` at a NUL
        if info.flag_bits & 0x1:
            raise tree.refuse(name, "which is encrypted")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise tree.refuse(name, "which is a link or a device")
        if name.endswith(("/", "\\")):
            yield name, _FOLDER
        else:
            with zipped.open(info) as data:
                yield name, data


def _of_tar(tar: tarfile.TarFile, stream: IO[bytes], tree: _Tree) -> Iterator[tuple[str, IO[bytes] | None]]:
    while (member := tar.next()) is not None:
        if member.isdir():
            yield member.name, _FOLDER
        elif member.isreg():
            yield member.name, tar.extractfile(member)
        else:
            raise tree.refuse(member.name, "which is a link or a device")
        tar.members.clear()  # type: ignore[attr-defined]
    while block := stream.read(_BLOCK):  # read to the end, where the checksum of the whole file is verified
        tree.spend(len(block))
        if block.strip(b"\0"):
            raise tarfile.ReadError("data after its end")


class _StrictHeader(tarfile.TarInfo):
    """A tar header that raises an error if it is broken, missing or absurd; tarfile would end the archive there."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _StrictHeader:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENSIONS and header.size > _LARGEST_EXTENSION:
            raise tarfile.ReadError(f"{header.size} bytes of names")
        return cls._sane(header)

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _StrictHeader:
        try:
            return cls._sane(super().fromtarfile(tarfile_))
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the zeros that end an archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    @staticmethod
    def _sane(header: Any) -> Any:
        if header.size < 0:
            raise tarfile.ReadError(f"a size of {header.size} bytes")
        return header
