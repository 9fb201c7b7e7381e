"""``tools/save_scores.py``: score maps of photographs without labels."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from anomaly.score_store import open_scores
from tests.anomaly import set_trees, tiny_segmentor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with config, checkpoint and photographs; also the working directory."""
    monkeypatch.chdir(tmp_path)
    tiny_segmentor.write_closed_set(tmp_path / "closed")
    config = tiny_segmentor.write_config(tmp_path / "tiny.py", tmp_path / "closed")
    tiny_segmentor.write_checkpoint(tmp_path / "tiny.pth", Config.fromfile(config))
    for i in range(3):
        set_trees.write(tmp_path / f"photos/town {i}/x.png", set_trees.photo(i, 48, 72))
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["save_scores.py", "tiny.py", "tiny.pth", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "tools" / "save_scores.py"), run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return run


def test_maps_of_a_folder_and_a_stopped_run(place, call, monkeypatch):
    words = ("--images", "photos", "--out", "maps", "--scores", "msp", "energy")
    status, printed, complaint = call(*words)
    assert status == 0, complaint
    assert "3 frames are in maps, 3 of them new" in printed
    stored = open_scores(place / "maps")
    assert (stored.set, stored.method, set(stored.scores)) == ("photos", "tiny", {"msp", "energy"})
    assert sorted(stored.files["msp"]) == [f"town {i}/x" for i in range(3)]
    before = stored.read("msp", "town 1/x")
    assert before.shape == (48, 72)
    stored.files["msp"]["town 1/x"].unlink()
    assert "1 of them new" in call(*words)[1]
    np.testing.assert_array_equal(open_scores(place / "maps").read("msp", "town 1/x"), before)


def test_hidden_test_split(place, call):
    images = place / "data/dataset_AnomalyTrack/images"
    for i in range(100):
        set_trees.write(images / f"airplane{i:04d}.jpg", set_trees.photo(i, 8, 12))
    set_trees.write(images / "validation0000.jpg", set_trees.photo())
    words = ("--set", "anomaly_track-test", "--out", "maps", "--scores", "msp")
    status, printed, complaint = call(*words)
    assert status == 0, complaint
    assert "100 frames" in printed
    (images / "airplane0003.jpg").unlink()
    status, _, complaint = call("--set", "anomaly_track-test", "--out", "others")
    assert status == 2
    assert "expected 100 photographs, found 99" in complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "maps"), "expected --set NAME or --images DIR"),
        (("--set", "sos", "--images", "photos", "--out", "maps"), "found both or neither"),
        (("--images", "nowhere", "--out", "maps"), "nowhere: expected a folder"),
        (("--set", "anomaly_track-test", "--out", "maps"), "found it in none of"),
        (("--images", "photos", "--out", "photos"), "found other files"),
        (("--images", "photos", "--out", "maps", "--data-root", "data"), "--data-root: expected --set"),
        (("--images", "photos", "--out", "maps", "--cfg-options", "model.pretrained=x.pth"), "checkpoint"),
        (("--images", "photos", "--out", "maps", "--cfg-options", "val_dataloader.batch_size=2"), "batch_size=2"),
    ],
)
def test_bad_input(place, call, words, message):
    status, _, complaint = call(*words)
    assert status == 2
    assert message in complaint
    assert not (place / "maps").exists()
