"""``tools/prepare_data.py`` as it is called."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--train", "2", "--val", "1", "--open-world", "2", "--size", "64x96"]


def prepare(*arguments, cwd):
    command = [sys.executable, str(ROOT / "tools" / "prepare_data.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)


def test_street_scenes_are_written_to_data_by_default(tmp_path):
    done = prepare("street_scenes", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data/street_scenes" in done.stdout
    root = tmp_path / "data" / "street_scenes"
    assert len(list(root.glob("leftImg8bit/train/*/*_leftImg8bit.png"))) == 2
    assert len(list(root.glob("gtFine/val/*/*_gtFine_labelTrainIds.png"))) == 1
    assert len(list(root.glob("open_world/frames/*.labels/labels_semantic.png"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "error: --size: expected height x width such as 360x480, found 'big'"),
        (["--size", "8x8"], "error: street_scenes: expected train, val"),
        (["--root", "taken"], "error: taken: expected nothing or generated street scenes, found other files"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    done = prepare("street_scenes", *SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
