"""Downloads from a server on this machine that cuts, lies, hangs and changes its mind."""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from anomaly.datasets import download as module
from anomaly.datasets.download import Download, fetch, sha256_of
from anomaly.errors import InputError
from tests.anomaly.file_server import serving

ROOT = Path(__file__).resolve().parents[2]
DATA = b"PK\3\4" + random.Random(0).randbytes(300_000)
OTHER = b"PK\3\4" + random.Random(1).randbytes(300_000)
SHA, OTHER_SHA = (hashlib.sha256(data).hexdigest() for data in (DATA, OTHER))


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def leave_part(site, folder: Path, at: int, **known) -> Download:
    """Make a run that is cut for good after ``at`` bytes of the file."""
    download = Download(site.url, "data.zip", **known)
    site.cuts = [at] * 99
    with pytest.raises(InputError, match="run the same command again"):
        fetch(download, folder)
    site.cuts, site.asked = [], []
    assert names(folder) == {"data.zip.part", "data.zip.part.json"}
    return download


def test_fetches_a_file_and_leaves_nothing_else(tmp_path):
    seen = []
    with serving(data=DATA) as site:
        download = Download(site.url, "data.zip", len(DATA), SHA.upper(), hashlib.md5(DATA).hexdigest())
        path = fetch(download, tmp_path / "a" / "b", on_progress=lambda *now: seen.append(now))
    assert path == tmp_path / "a" / "b" / "data.zip"
    assert path.read_bytes() == DATA
    assert names(path.parent) == {"data.zip"}
    assert sha256_of(path) == SHA
    assert (seen[0], seen[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("how", [{"unsized": True}, {"chunked": True}, {"etag": None}, {"ranges": False}])
def test_fetches_from_a_server_that_tells_little(tmp_path, how):
    with serving(data=DATA, **how) as site:
        assert fetch(Download(site.url, "data.zip"), tmp_path).read_bytes() == DATA


def test_a_file_in_place_is_not_fetched_again(tmp_path):
    (tmp_path / "data.zip").write_bytes(DATA)
    (tmp_path / "data.zip.part.json").write_text("{}")
    with serving(data=OTHER) as site:
        assert fetch(Download(site.url, "data.zip", sha256=SHA), tmp_path).read_bytes() == DATA
        assert site.asked == []
    assert names(tmp_path) == {"data.zip"}


@pytest.mark.parametrize(
    ("known", "match"),
    [
        ({"sha256": SHA}, rf"data\.zip.*sha256 {SHA}, found {OTHER_SHA}; move it away"),
        ({"md5": "0" * 32}, rf"md5 {'0' * 32}, found {hashlib.md5(OTHER).hexdigest()}; move it away"),
        ({"size": 7}, "expected 7 bytes, found 300004; move it away"),
    ],
)
def test_another_file_in_place_is_an_error_and_stays(tmp_path, known, match):
    (tmp_path / "data.zip").write_bytes(OTHER)
    with pytest.raises(InputError, match=match):
        fetch(Download("http://127.0.0.1:9/", "data.zip", **known), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == OTHER


@pytest.mark.parametrize("how", [{}, {"chunked": True}])
def test_goes_on_where_a_connection_was_cut(tmp_path, how):
    with serving(data=DATA, cuts=[70_000, 200_001, 299_999], **how) as site:
        assert fetch(Download(site.url, "data.zip", sha256=SHA), tmp_path).read_bytes() == DATA
    starts = [int(asked[len("bytes=") : -1]) for asked in site.asked[1:]]
    assert (len(starts), starts) == (3, sorted(starts))
    assert starts[0] > 0
    if not how:
        assert starts == [70_000, 200_001, 299_999]


def test_a_cut_body_without_a_length_is_noticed_by_the_known_size(tmp_path):
    with serving(data=DATA, unsized=True, cuts=[1000]) as site:
        assert fetch(Download(site.url, "data.zip", size=len(DATA)), tmp_path).read_bytes() == DATA
        assert site.asked == [None, "bytes=1000-"]


def test_starts_over_where_the_server_cannot_send_the_rest(tmp_path):
    with serving(data=DATA, ranges=False, cuts=[1000, 2000]) as site:
        assert fetch(Download(site.url, "data.zip"), tmp_path).read_bytes() == DATA
        assert site.asked == [None, "bytes=1000-", "bytes=2000-"]


def test_gives_up_after_some_tries_and_the_next_run_goes_on(tmp_path):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked == ["bytes=5000-"]
        assert names(tmp_path) == {"data.zip"}


@pytest.mark.parametrize(
    "change", [{"etag": '"2"'}, {"etag": '"1"', "data": OTHER + b"longer"}, {"etag": None, "modified": "yesterday"}]
)
def test_a_part_of_another_version_is_not_gone_on_with(tmp_path, change):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
        site.data = OTHER
        for name, value in change.items():
            setattr(site, name, value)
        assert fetch(download, tmp_path).read_bytes() == site.data
        assert site.asked == ["bytes=5000-", None]


def test_a_part_of_another_date_is_not_gone_on_with(tmp_path):
    with serving(data=DATA, etag=None, modified="Mon, 02 Nov 2026 10:00:00 GMT") as site:
        download = leave_part(site, tmp_path, 5000)
        site.data, site.modified = OTHER, "Mon, 02 Nov 2026 10:00:01 GMT"
        assert fetch(download, tmp_path).read_bytes() == OTHER
        assert site.asked == ["bytes=5000-", None]


def test_a_part_of_an_unchanged_date_is_gone_on_with(tmp_path):
    with serving(data=DATA, etag=None, modified="Mon, 02 Nov 2026 10:00:00 GMT") as site:
        assert fetch(leave_part(site, tmp_path, 5000), tmp_path).read_bytes() == DATA
        assert site.asked == ["bytes=5000-"]


def test_a_change_while_fetching_is_noticed(tmp_path):
    with serving(data=DATA, cuts=[100_000]) as site:

        def replace_it(have, _):
            if have:
                site.data, site.etag = OTHER, '"2"'

        assert fetch(Download(site.url, "data.zip"), tmp_path, on_progress=replace_it).read_bytes() == OTHER


@pytest.mark.parametrize(("known", "asked"), [({}, None), ({"sha256": SHA}, "bytes=5000-")])
def test_versions_that_cannot_be_told_apart_are_gone_on_with_only_if_a_checksum_is_known(tmp_path, known, asked):
    with serving(data=DATA, etag=None) as site:
        download = leave_part(site, tmp_path, 5000, **known)
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked == [asked]


@pytest.mark.parametrize("note", [None, "{", "[]", '{"url": "http://elsewhere/", "etag": "\\"1\\""}'])
def test_a_part_without_its_note_is_not_gone_on_with(tmp_path, note):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
        path = tmp_path / "data.zip.part.json"
        path.unlink() if note is None else path.write_text(note)
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked == [None]


def test_a_part_longer_than_the_file_is_not_gone_on_with(tmp_path):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
        with (tmp_path / "data.zip.part").open("ab") as stream:
            stream.write(bytes(len(DATA)))
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked[-1] is None


def test_a_whole_part_needs_no_server(tmp_path):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
    (tmp_path / "data.zip.part").write_bytes(DATA)
    assert fetch(download, tmp_path).read_bytes() == DATA


def test_a_part_from_elsewhere_in_the_file_is_not_appended(tmp_path):
    with serving(data=DATA, wrong_range=True) as site:
        download = leave_part(site, tmp_path, 5000)
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked == ["bytes=5000-", None]


def test_a_wrong_checksum_removes_the_part(tmp_path):
    with serving(data=OTHER) as site, pytest.raises(InputError, match=f"sha256 {SHA}, found {OTHER_SHA}; the part is"):
        fetch(Download(site.url, "data.zip", sha256=SHA), tmp_path)
    assert names(tmp_path) == set()


def test_a_size_other_than_expected_is_refused_before_the_body(tmp_path):
    with serving(data=DATA) as site, pytest.raises(InputError, match=r"expected 9 bytes.*announces 300004"):
        fetch(Download(site.url, "data.zip", size=9), tmp_path)
    assert names(tmp_path) == set()


def test_a_length_announced_too_short_is_an_error(tmp_path):
    with serving(data=DATA, announced=1000) as site, pytest.raises(InputError, match=f"sha256 {SHA}, found"):
        fetch(Download(site.url, "data.zip", sha256=SHA), tmp_path)
    assert names(tmp_path) == set()


def test_a_length_announced_too_long_is_an_error(tmp_path):
    with serving(data=DATA, announced=400_000) as site, pytest.raises(InputError, match="failed 5 times"):
        fetch(Download(site.url, "data.zip"), tmp_path)
    assert "data.zip" not in names(tmp_path)


def test_an_endless_body_is_stopped(tmp_path):
    with serving(data=DATA, unsized=True, endless=True) as site:
        with pytest.raises(InputError, match=r"expected 400000 bytes.*sends more"):
            fetch(Download(site.url, "data.zip", size=400_000), tmp_path)
        assert names(tmp_path) == set()
        site.unsized = False
        assert fetch(Download(site.url, "data.zip"), tmp_path).read_bytes() == DATA  # what was announced, no more


@pytest.mark.parametrize(
    ("status", "match"),
    [(404, r"404 \(Not Found\); it may have moved"), (403, "403.*login.*browser"), (500, "500.*later")],
)
def test_a_refusal_names_the_address_and_what_to_do(tmp_path, status, match):
    with serving(status=status) as site:
        with pytest.raises(InputError, match=rf"^{site.url}: .*{match}"):
            fetch(Download(site.url, "data.zip"), tmp_path)
        assert len(site.asked) == 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/data.zip", "data:,PK"])
def test_a_redirect_away_from_the_web_is_not_followed(tmp_path, location):
    with serving(status=302, location=location) as site:
        with pytest.raises(InputError, match=rf"302.*{location}.*not allowed"):
            fetch(Download(site.url, "data.zip"), tmp_path)
        assert names(tmp_path) == set()


def test_a_redirect_on_the_web_is_followed(tmp_path):
    with serving(data=DATA, cuts=[1000]) as site, serving(status=302, location=site.url) as front:
        assert fetch(Download(front.url, "data.zip"), tmp_path).read_bytes() == DATA
        assert site.asked == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    ("kind", "data"),
    [("text/html; charset=utf-8", b"Gone"), ("application/zip", b"\xef\xbb\xbf\n<!DOCTYPE html><p>Please log in")],
)
def test_a_web_page_is_no_archive(tmp_path, kind, data):
    with serving(data=data, type=kind) as site:
        with pytest.raises(InputError, match=r"expected the archive data\.ZIP, found a web page"):
            fetch(Download(site.url, "data.ZIP"), tmp_path)
        assert names(tmp_path) == set()
        assert fetch(Download(site.url, "index.html"), tmp_path).is_file()


def test_a_proxy_of_the_environment_is_asked(tmp_path, monkeypatch):
    with serving(data=DATA) as site:
        monkeypatch.setenv("http_proxy", site.url.removesuffix("/data.zip"))
        assert fetch(Download("http://nowhere.invalid/data.zip", "data.zip"), tmp_path).read_bytes() == DATA


def test_a_web_page_in_between_leaves_the_part(tmp_path):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
        site.data, site.ranges = b"<html>Welcome to the hotel's network", False
        with pytest.raises(InputError, match="web page"):
            fetch(download, tmp_path)
        site.data, site.ranges = DATA, True
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked[-1] == "bytes=5000-"


def test_an_empty_answer_is_no_file(tmp_path):
    with serving(data=b"") as site, pytest.raises(InputError, match="expected some bytes, found 0"):
        fetch(Download(site.url, "data.zip"), tmp_path)
    assert names(tmp_path) == set()


def test_a_server_that_hangs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TRIES", 2)
    with serving(hang=True) as site, pytest.raises(InputError, match=r"timed out.*run the same command again"):
        fetch(Download(site.url, "data.zip"), tmp_path, timeout=0.1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nowhere.invalid/", "http:///", "http://127.0.0.1:x/"])
def test_no_server_is_an_error(tmp_path, monkeypatch, url):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    with pytest.raises(InputError, match=r"expected a server that answers, found none.*check the address"):
        fetch(Download(url, "data.zip"), tmp_path)


def test_a_server_that_goes_away_is_tried_again(tmp_path):
    with serving(data=DATA) as site:
        download = leave_part(site, tmp_path, 5000)
    with pytest.raises(InputError, match=r"failed 5 times \(.*refused.*5000 bytes in .*run the same command again"):
        fetch(download, tmp_path)


def test_a_disk_without_room_is_refused_before_the_body(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with serving(data=DATA) as site, pytest.raises(InputError, match="room for 300004 bytes, found 1000 free"):
        fetch(Download(site.url, "data.zip"), tmp_path)


def test_a_write_that_fails_is_an_error_and_can_be_gone_on_with(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(data=DATA) as site:
        download = Download(site.url, "data.zip")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(InputError, match=r"data\.zip\.part: .*too large; free some space"):
                fetch(download, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert fetch(download, tmp_path).read_bytes() == DATA
        assert site.asked == [None, "bytes=100000-"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        fetch(Download("http://127.0.0.1:1/", "data.zip"), tmp_path / "file")


def test_a_folder_of_the_files_name_is_an_error(tmp_path):
    (tmp_path / "data.zip").mkdir()
    with pytest.raises(InputError, match="expected a file, found something else; move it away"):
        fetch(Download("http://127.0.0.1:1/", "data.zip"), tmp_path)


def test_another_writer_to_the_same_part_is_noticed(tmp_path):
    with serving(data=DATA) as site:

        def write_too(have, _):
            if have and len(site.asked) == 1:
                with (tmp_path / "data.zip.part").open("ab") as stream:
                    stream.write(b"more")

        assert fetch(Download(site.url, "data.zip"), tmp_path, on_progress=write_too).read_bytes() == DATA


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b.zip", "a/b.zip", ""])
def test_only_web_addresses(url):
    with pytest.raises(InputError, match="http://"):
        Download(url, "data.zip")


@pytest.mark.parametrize("file", ["", ".", "..", "a/b", "../b", "/b", "a\\b", "a\0b"])
def test_only_plain_names(file):
    with pytest.raises(InputError, match="plain name"):
        Download("http://a/b", file)


def test_sha256_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="none: expected a file that can be read"):
        sha256_of(tmp_path / "none")


def test_a_killed_run_goes_on(tmp_path):
    code = (
        "import sys; from pathlib import Path; from anomaly.datasets.download import *\n"
        "fetch(Download(sys.argv[1], 'data.zip'), Path(sys.argv[2]))"
    )
    part, deadline = tmp_path / "data.zip.part", time.monotonic() + 60
    with serving(data=DATA, cuts=[100_000], stall=True) as site:
        with subprocess.Popen([sys.executable, "-c", code, site.url, tmp_path], cwd=ROOT) as run:
            while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.005)
            run.send_signal(signal.SIGKILL)
        got = part.stat().st_size
        assert 0 < got <= 100_000
        assert names(tmp_path) == {"data.zip.part", "data.zip.part.json"}
        assert fetch(Download(site.url, "data.zip"), tmp_path).read_bytes() == DATA
        assert site.asked == [None, f"bytes={got}-"]
