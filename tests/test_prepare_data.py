"""``anomaly data`` as it is called."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly.datasets import download
from anomaly.datasets.catalog import SETS
from anomaly.datasets.download import Download
from tests.anomaly import set_trees
from tests.anomaly.file_server import serving
from tests.anomaly.set_trees import plant
from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--train", "2", "--val", "1", "--open-world", "2", "--size", "64x96"]


def prepare(*arguments, cwd):
    command = [sys.executable, str(ROOT / "tools/prepare_data.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)


def test_street_scenes_are_written_to_data_by_default(tmp_path):
    done = prepare("street_scenes", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data/street_scenes" in done.stdout
    root = tmp_path / "data" / "street_scenes"
    assert len(list(root.glob("leftImg8bit/train/*/*_leftImg8bit.png"))) == 2
    assert len(list(root.glob("gtFine/val/*/*_gtFine_labelTrainIds.png"))) == 1
    assert len(list(root.glob("open_world/frames/*.labels/labels_semantic.png"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "error: --size: expected HEIGHTxWIDTH such as 360x480, found 'big'"),
        (["--size", "8x8"], "error: street_scenes: expected train, val"),
        (["--size", "99999999999x99999999999"], "error: street_scenes: expected train, val"),
        (["--size", "64x96", "--seed", "-1"], "error: street_scenes: expected train, val"),
        (["--root", "taken", "--root", "other"], "error: --root: expected it once, found it twice"),
        (["--root", "taken"], "error: taken: expected an empty folder or street scenes, found other files"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    small = [] if "--size" in arguments else SMALL
    done = prepare("street_scenes", *small, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the tool here; give its status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "_PAUSE", 0.0)

    def run(*words):
        status = status_of("anomaly data", *map(str, words))
        return status, *capsys.readouterr()

    return run


def test_list_names_every_set(call):
    status, printed, _ = call("list")
    assert status == 0
    assert [line.split()[0] for line in printed.splitlines()[1:]] == list(SETS)


def test_check_prints_what_is_there_and_status_1_with_faults(call, tmp_path):
    set_trees.road_anomaly(tmp_path / "data/street_scenes/open_world", {"a": (0,), "b": (0, 2)})
    status, printed, _ = call("check", "street_scenes")
    assert status == 0
    assert "1 frames have none: a" in printed
    assert printed.endswith("faults       none\n")
    plant(tmp_path, "camvid_ood", "folders")
    status, printed, _ = call("check", "camvid_ood", tmp_path / "camvid_ood")
    assert status == 0
    assert "12 anomaly" in printed
    assert "note         1 images of 8x6 pixels where 480x360 is published: read as it is" in printed
    (tmp_path / "camvid_ood/images" / "bare.jpg").write_bytes(b"")
    status, printed, _ = call("check", "camvid_ood", tmp_path / "camvid_ood")
    assert status == 1
    assert "expected a label map for every image" in printed


@pytest.mark.parametrize(
    ("name", "message"), [("road", "unknown dataset 'road'"), ("sos", "expected raw_data/sequence")]
)
def test_check_of_what_is_not_there(call, name, message):
    status, _, complaint = call("check", name)
    assert status == 2
    assert message in complaint


def archive(tmp_path, kind="zip"):
    """An archive with camvid_ood's folders in it."""
    plant(tmp_path / "made", "camvid_ood", "folders")
    data, folder = io.BytesIO(), tmp_path / "made" / "camvid_ood"
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as file:
            for path in folder.rglob("*.*"):
                file.write(path, path.relative_to(folder))
    else:
        with tarfile.open(fileobj=data, mode="w") as file:
            link = tarfile.TarInfo("images/a.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(link)
    return data.getvalue()


@pytest.fixture
def offered(monkeypatch):
    """Let camvid_ood be fetched from a site."""

    def offer(site, **known):
        entry = replace(SETS["camvid_ood"], downloads=(Download(site.url, "data.zip", **known),))
        monkeypatch.setitem(SETS, "camvid_ood", entry)

    return offer


YES = ("download", "camvid_ood", "--accept-licence")


def test_download_fetches_unpacks_and_is_found(call, tmp_path, offered):
    data = archive(tmp_path)
    with serving(data=data, cuts=[len(data) // 2]) as site:
        offered(site, size=len(data))
        status, printed, _ = call(*YES)
    assert status == 0
    assert "none stated; CamVid is for research" in printed
    assert "no checksum is published" in printed
    assert [bool(asked) for asked in site.asked] == [False, True]
    assert sorted(os.listdir(tmp_path / "data/camvid_ood")) == ["images", "labels"]
    assert "1 frames where 233 are published" in call("check", "camvid_ood")[1]
    with serving(data=data) as site:
        offered(site)
        status, _, complaint = call(*YES)
    assert status == 2
    assert "found images; the dataset seems to be there" in complaint
    assert sorted(os.listdir(tmp_path / "data/camvid_ood")) == ["images", "labels"]


def test_download_needs_a_yes(call, tmp_path, offered):
    with serving(data=archive(tmp_path)) as site:
        offered(site)
        status, _, complaint = call("download", "camvid_ood")
    assert status == 2
    assert "--accept-licence" in complaint
    assert site.asked == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("settings", "known", "message"),
    [
        ({"cuts": [9, 9, 9, 9, 9], "ranges": False}, {}, "run the same command again"),
        ({"announced": 10**6}, {}, "run the same command again"),
        ({}, {"size": 7}, "expected 7 bytes"),
        ({}, {"sha256": "0" * 64}, "0000"),
    ],
)
def test_download_of_something_else_leaves_no_set(call, tmp_path, offered, settings, known, message):
    with serving(data=archive(tmp_path), **settings) as site:
        offered(site, **known)
        status, _, complaint = call(*YES)
    assert status == 2
    assert message in complaint
    assert not (tmp_path / "data" / "camvid_ood").exists()


def test_hostile_archive_leaves_no_set(call, tmp_path, offered):
    with serving(data=archive(tmp_path, "tar")) as site:
        offered(site)
        status, _, complaint = call(*YES)
    assert status == 2
    assert "images/a.jpg" in complaint
    assert os.listdir(tmp_path / "data" / "camvid_ood") == []


def test_download_of_what_has_no_archive_says_where_to_get_it(call):
    status, _, complaint = call("download", "road_anomaly")
    assert status == 2
    assert "get it from https://www.epfl.ch" in complaint
