import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def _curves(*arguments):
    command = [sys.executable, str(ROOT / "tools/dev" / "training_curves.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def _log(work_dir, start, lines):
    folder = work_dir / start / "vis_data"
    folder.mkdir(parents=True)
    (folder / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.slow
def test_log_becomes_a_row_a_step(tmp_path):
    """A step that a resumed training went through again counts once, as the later log has it."""
    run = tmp_path / "net-gmmseg"
    first = {"loss": 2.0, "decode.loss_ce": 1.5, "lr": 0.1, "mixture/log_likelihood": 40.0}
    _log(run, "20260101_000000", [first | {"step": 20}, first | {"step": 40}])
    _log(run, "20260102_000000", [{"loss": 1.0, "step": 40}, {"mIoU": 55.5, "step": 40}, {"loss": 0.5, "step": 60}])
    done = _curves(run, "--out", tmp_path / "curves", "--plot", tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr
    curve = pd.read_csv(tmp_path / "curves" / "net-gmmseg.csv", index_col="step")
    assert curve.loss.to_dict() == {20: 2.0, 40: 1.0, 60: 0.5}
    assert curve.mIoU.dropna().to_dict() == {40: 55.5}
    assert "lr" not in curve
    assert Image.open(tmp_path / "curves.png").width > 500


def test_nothing_to_do_is_said(tmp_path):
    done = _curves("--out", tmp_path / "curves")
    assert done.returncode == 2
    assert "--plot" in done.stderr
    assert not (tmp_path / "curves").exists()


def test_folder_without_a_log_is_named(tmp_path):
    done = _curves(tmp_path, "--out", tmp_path / "curves")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}: expected a log")
