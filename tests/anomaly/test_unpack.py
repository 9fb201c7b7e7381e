"""Archives that are well, hostile or damaged: all of one is unpacked, or nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import shutil
import stat
import struct
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from anomaly.datasets.unpack import unpack
from anomaly.errors import InputError

NOISE = random.Random(0).randbytes(40_000)
FILES = {"set/a.txt": b"a" * 1024, "set/deep/er/b.bin": NOISE, "set/empty": b"", "c d.é": b"c"}
PACKERS = {"tar": lambda data: data, "tgz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
KINDS = ["zip", *PACKERS]


def make_tar(path: Path, entries, pack=lambda data: data, **settings) -> Path:
    """Write a tar of (name, bytes) pairs, or of TarInfo objects for entries without data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **settings) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size, info.mode = len(entry[1]), 0o4777
                tar.addfile(info, io.BytesIO(entry[1]))
    path.write_bytes(pack(buffer.getvalue()))
    return path


def make_zip(path: Path, entries, compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.filename = name if isinstance(name, str) else name.filename  # as it is: no "/" for a "\\"
            info.compress_type = compression
            file.writestr(info, data)
    return path


def make(kind: str, path: Path, entries) -> Path:
    return make_zip(path, entries) if kind == "zip" else make_tar(path, entries, PACKERS[kind])


def special(kind: bytes, name="set/link", target="/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, match: str, **settings) -> None:
    """The archive is refused, and beside it there is nothing afterwards."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(InputError, match=match) as raised:
        unpack(archive, archive.parent / "not" / "yet", **settings)
    assert str(archive) in str(raised.value)
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize("kind", KINDS)
def test_unpacks_what_was_packed(tmp_path, kind):
    archive = make(kind, tmp_path / "named.anyhow", FILES.items())
    out = unpack(archive, tmp_path / "out" / "set")
    assert out == tmp_path / "out" / "set"
    assert tree(out) == FILES
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("named.anyhow", "out", "set", "a.txt", "deep", "er", "b.bin", "empty", "c d.é")
    }
    for path in (out, *out.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_unpacks_every_form_of_tar_with_long_names_and_folders(tmp_path, form):
    folders = [special(tarfile.DIRTYPE, name, "") for name in ("./", "./set/", "set", "none")]
    name = "set/" + "/".join(["n" * 49] * 4)
    out = unpack(make_tar(tmp_path / "a", [*folders, (f"./{name}", NOISE)], format=form), tmp_path / "out")
    assert tree(out) == {name: NOISE}
    assert (out / "none").is_dir()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unpacks_every_compression_of_zip(tmp_path, compression):
    archive = make_zip(tmp_path / "a", [("folder/", b""), *FILES.items()], compression)
    assert tree(unpack(archive, tmp_path / "out")) == FILES


def test_a_backslash_separates_folders(tmp_path):
    out = unpack(make_zip(tmp_path / "a", [("set\\", b""), ("set\\a.txt", b"a"), ("set/b", b"b")]), tmp_path / "out")
    assert tree(out) == {"set/a.txt": b"a", "set/b": b"b"}


def test_fills_an_empty_folder_also_behind_a_link(tmp_path):
    (tmp_path / "elsewhere" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "real")
    unpack(make("zip", tmp_path / "a", FILES.items()), tmp_path / "link")
    assert tree(tmp_path / "elsewhere" / "real") == FILES
    assert (tmp_path / "link").is_symlink()


def test_a_place_that_cannot_be_is_an_error(tmp_path):
    archive = make("zip", tmp_path / "a", FILES.items())
    for folder in (archive / "below" / "a file", tmp_path / ("n" * 256)):
        with pytest.raises(InputError, match="choose another folder"):
            unpack(archive, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_with_files_is_left_alone(tmp_path):
    archive = make("zip", tmp_path / "a", FILES.items())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(b"mine")
    for folder in (tmp_path / "out", tmp_path / "out" / "mine"):
        with pytest.raises(InputError, match="expected no folder or an empty one"):
            unpack(archive, folder)
    assert tree(tmp_path / "out") == {"mine": b"mine"}


OUTSIDE = ["/abs", "../up", "set/../../up", "set/..", "\\abs", "..\\up", "set\\..\\..\\up", "C:\\x", "c:x", "C:/x"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", [*OUTSIDE, "n" * 256, "é" * 128, "d/" * 64 + "f", "/".join(["n" * 200] * 6), "."])
def test_names_that_lead_outside_or_are_absurd_are_refused(tmp_path, kind, name):
    refused(make(kind, tmp_path / "a", [("good", b"good"), (name, b"bad")]), "found the member '")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("set/a", "set/a"),
        ("a", "a"),
        ("set/a", "SET/A"),
        ("Set/a", "set/b"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b", "./a//b"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path, kind, first, second):
    refused(make(kind, tmp_path / "a", [(first, b"1"), (second, b"2")]), "whose name equals that of '")


LINKS = {
    **{"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE},
    **{"character device": tarfile.CHRTYPE, "block device": tarfile.BLKTYPE, "unknown": b"Z"},
}


@pytest.mark.parametrize("kind", LINKS.values(), ids=LINKS)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    refused(
        make_tar(tmp_path / "a", [("good", b"good"), special(kind, target="good")]), "'set/link', which is a link or"
    )


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    info = zipfile.ZipInfo("set/link")
    info.external_attr = (kind | 0o777) << 16
    refused(make_zip(tmp_path / "a", [("good", b"good"), (info, b"/etc/passwd")]), "'set/link', which is a link or")


def test_a_nul_in_a_name_is_refused(tmp_path):
    archive = make_zip(tmp_path / "a", [("good", b"good"), ("a.pngX.exe", b"bad")])
    archive.write_bytes(archive.read_bytes().replace(b"a.pngX.exe", b"a.png\0.exe"))
    refused(archive, "with a NUL in its name")
    info = tarfile.TarInfo("a")
    info.pax_headers = {"path": "a.png\0.exe"}
    refused(make_tar(tmp_path / "b", [("good", b"good"), info], format=tarfile.PAX_FORMAT), "with a NUL in its name")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = make_zip(tmp_path / "a", [("good", b"good")])
    data = bytearray(archive.read_bytes())
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + at] |= 1
    archive.write_bytes(data)
    refused(archive, "'good', which is encrypted")


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_counts_all_bytes(tmp_path, kind):
    archive = make(kind, tmp_path / "a", [("one", bytes(600_000)), ("two", bytes(600_000))])
    refused(archive, "expected at most 1199999 bytes when unpacked", limit=1_199_999)
    unpack(archive, tmp_path / "out", limit=1_200_000 + 20_480 * (kind != "zip"))  # a tar's zeros at the end count too


def test_the_limit_counts_bytes_and_not_what_a_header_says(tmp_path):
    archive = make_zip(tmp_path / "a", [("bomb", bytes(5_000_000))])
    data = bytearray(archive.read_bytes())
    for magic, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(magic) + at, 10)
    archive.write_bytes(data)
    refused(archive, "damaged|expected at most 1000 bytes", limit=1000)


def test_zeros_after_the_end_of_a_tar_count(tmp_path):
    archive = make_tar(tmp_path / "a", [("a", b"a")], lambda data: gzip.compress(data + bytes(5_000_000)))
    refused(archive, "expected at most 1000000 bytes", limit=1_000_000)


def test_free_disk_space_is_a_limit(tmp_path, monkeypatch):
    archive = make("zip", tmp_path / "a", FILES.items())
    usage = namedtuple("usage", "free")(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refused(archive, "expected at most 1000 bytes.*free disk")


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_cut_anywhere_is_refused(tmp_path, kind):
    whole = make(kind, tmp_path / "whole", FILES.items()).read_bytes()
    content = len(whole) - (9 * 1024 if kind == "tar" else 0)  # a tar ends in zeros, of which some may miss
    step = 512 if kind == "tar" else 1733
    for end in [0, 1, 7, *range(512, content - 1, step), *([len(whole) - 1] if kind != "tar" else [])]:
        archive = tmp_path / "a"
        archive.write_bytes(whole[:end])
        refused(archive, "damaged, truncated or of another kind")
    archive.unlink()


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar.bz2", "tar.xz"])
def test_a_changed_byte_is_noticed(tmp_path, kind):
    data = bytearray(make(kind, tmp_path / "whole", FILES.items()).read_bytes())
    data[len(data) // 2] ^= 0x10
    archive = tmp_path / "a"
    archive.write_bytes(data)
    refused(archive, "damaged, truncated or of another kind")


def test_the_checksum_at_the_end_of_a_tgz_is_looked_at(tmp_path):
    data = bytearray(make("tgz", tmp_path / "whole", FILES.items()).read_bytes())
    data[-8] ^= 1
    (tmp_path / "a").write_bytes(data)
    refused(tmp_path / "a", "damaged.*CRC")


def test_a_broken_header_in_a_tar_is_not_taken_for_its_end(tmp_path):
    data = bytearray(make("tar", tmp_path / "whole", FILES.items()).read_bytes())
    data[1536 + 20] ^= 1  # in the name of the second member: its header's checksum is now wrong
    (tmp_path / "a").write_bytes(data)
    refused(tmp_path / "a", "damaged.*bad checksum")


def test_data_after_the_end_of_a_tar_is_not_passed_over(tmp_path):
    one, two = (make_tar(tmp_path / name, [(name, b"x")]).read_bytes() for name in "bc")
    (tmp_path / "a").write_bytes(one + two)
    refused(tmp_path / "a", "damaged.*data after its end")


@pytest.mark.parametrize(("kind", "size"), [(b"0", -512), (b"L", -512), (b"x", 1 << 40), (b"L", 1 << 40)])
def test_absurd_sizes_in_a_tar_are_refused(tmp_path, kind, size):
    info = tarfile.TarInfo("a")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = kind
    header[124:136] = (size + (256**12 if size < 0 else 0) | (0x80 << 88 if size > 0 else 0)).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a").write_bytes(
        make_tar(tmp_path / "b", [("good", b"good")]).read_bytes()[:1024] + header + bytes(9999)
    )
    refused(tmp_path / "a", "damaged")


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", bytes(10240), b"\x1f\x8b" + bytes(50), gzip.compress(b"a,b\n" * 999)],
    ids=["empty", "page", "zeros", "cut gzip", "gzip"],
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    refused(tmp_path / "a", "expected a complete zip|expected at least one file")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_archive_is_refused(tmp_path, kind):
    refused(make(kind, tmp_path / "a", []), "expected at least one file")


def test_a_missing_archive_is_an_error(tmp_path):
    with pytest.raises(InputError, match="found no file"):
        unpack(tmp_path / "none", tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch, kind):
    archive = make(kind, tmp_path / "a", FILES.items())
    chmod, calls = Path.chmod, []

    def interrupt(self, mode):
        calls.append(self)
        if self.name == "b.bin":
            raise KeyboardInterrupt
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert len(calls) > 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_write_that_fails_is_an_error(tmp_path, monkeypatch):
    archive = make("zip", tmp_path / "a", FILES.items())

    def fail(self, mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", fail)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_byte_is_changed_all_or_nothing_is_unpacked(tmp_path, kind):
    data = make(kind, tmp_path / "whole", [("set/a", b"a" * 700), ("set/b", b"b" * 20)]).read_bytes()
    draw, archive, out = random.Random(0), tmp_path / "a", tmp_path / "out"
    for _ in range(60):
        changed = bytearray(data)
        changed[draw.randrange(min(len(changed), 4096))] = draw.randrange(256)
        archive.write_bytes(changed)
        try:
            unpack(archive, out)
            shutil.rmtree(out)
        except InputError:
            pass
        assert {path.name for path in tmp_path.iterdir()} == {"whole", "a"}
