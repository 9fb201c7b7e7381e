"""``anomaly save-scores``: score maps of images without labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from anomaly.results.score_store import open_scores
from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import TOOLS, status_of
from tests.test_ood_eval import write_set

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with config, checkpoint and images; also the working directory."""
    monkeypatch.chdir(tmp_path)
    tiny_segmentor.write_all(tmp_path)
    for i in range(3):
        set_trees.write(tmp_path / f"photos/town {i}/x.png", set_trees.photo(i, 48, 72))
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):

    def run(*words):
        status = status_of("anomaly save-scores", "tiny.py", "tiny.pth", *map(str, words))
        return status, *capsys.readouterr()

    return run


def test_maps_of_a_folder_and_a_stopped_run(place, call, monkeypatch):
    words = ("--images", "photos", "--out", "maps", "--scores", "msp", "energy")
    status, printed, complaint = call(*words)
    assert status == 0, complaint
    assert "3 frames are in maps, 3 of them new" in printed
    stored = open_scores(place / "maps")
    assert (stored.dataset, stored.method, set(stored.scores)) == ("photos", "tiny", {"msp", "energy"})
    assert sorted(stored.files["msp"]) == [f"town {i}/x" for i in range(3)]
    before = stored.read("msp", "town 1/x")
    assert before.shape == (48, 72)
    stored.files["msp"]["town 1/x"].unlink()
    assert "1 of them new" in call(*words)[1]
    np.testing.assert_array_equal(open_scores(place / "maps").read("msp", "town 1/x"), before)


@pytest.mark.slow
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
    assert "expected 100 images, found 99" in complaint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "maps"), "expected --data NAME or --images DIR"),
        (("--set", "sos", "--images", "photos", "--out", "maps"), "found both or neither"),
        (("--images", "nowhere", "--out", "maps"), "nowhere: expected a folder"),
        (("--set", "anomaly_track-test", "--out", "maps"), "found it in none of"),
        (("--images", "photos", "--out", "photos"), "found other files"),
        (("--images", "photos", "--out", "maps", "--data-root", "data"), "--data-root: expected --data"),
        (("--images", "photos", "--out", "maps", "--cfg-options", "model.pretrained=x.pth"), "checkpoint"),
        (("--images", "photos", "--out", "maps", "--cfg-options", "val_dataloader.batch_size=2"), "batch_size=2"),
    ],
)
def test_bad_input(place, call, words, message):
    status, _, complaint = call(*words)
    assert status == 2
    assert message in complaint
    assert not (place / "maps").exists()


# Tools that follow one another


@pytest.fixture
def tool(place, monkeypatch, capsys):
    """Run any tool on the set that is written here: three frames of RoadAnomaly's layout."""
    write_set(place / "data/road_anomaly")
    for i in range(3):
        set_trees.write(place / f"mine/labels/f{i}.png", set_trees.label((0, 0, 0, 1, 1, 0, 0), 48, 72))

    def run(name, *words):
        network = (
            ("tiny.py", "tiny.pth")
            if "--predictions" not in words and name not in ("export_scores", "anomaly export-scores")
            else ()
        )
        status = status_of(TOOLS.get(name, name), *network, *words)
        return status, *capsys.readouterr()

    return run


QUICK = ("--heatmaps", "none", "--scores", "msp", "--out", "out")
FRAMES = "data/road_anomaly/frames"


def figures(place):
    (found,) = json.loads((place / "out/results.json").read_text())["datasets"]
    return found["scores"]["msp"]


def test_maps_of_a_folder_serve_the_set_and_the_folder_whatever_is_renamed(place, tool):
    with pytest.warns(
        UserWarning, match=r"3 files such as f0\.labels/labels_semantic\.png are left out: they are label"
    ):
        status, printed, complaint = tool("save_scores", "--images", FRAMES, "--scores", "msp", "--out", "maps/frames")
    assert (status, "3 frames are in maps/frames, 3 of them new" in printed) == (0, True), complaint
    assert tool("ood_eval", "--sets", "road_anomaly", "--no-closed-set", *QUICK)[0] == 0
    expected = figures(place)
    own = ("--folder", FRAMES, "mine/labels", "--label-values", "0=known", "1=anomaly")
    for words in (("--sets", "road_anomaly"), own):
        status, _, complaint = tool("ood_eval", "--predictions", "maps", *words, *QUICK)
        assert (status, figures(place)) == (0, expected), complaint
        assert "score maps" not in complaint
    (place / "maps/frames").rename(place / "maps/before")
    (place / "maps").rename(place / "elsewhere")
    (place / "data").rename(place / "moved")
    own = ("--folder", "moved/road_anomaly/frames", *own[2:])
    for words in (("--sets", "road_anomaly", "--data-root", "moved"), own):
        assert tool("ood_eval", "--predictions", "elsewhere", *words, *QUICK)[0] == 0
        assert figures(place) == expected


@pytest.mark.slow
def test_a_stopped_run_goes_on_after_its_images_were_renamed_or_replaced(place, tool):
    words = ("--scores", "msp", "--out", "maps")
    assert tool("save_scores", "--images", FRAMES, *words)[0] == 0
    (place / FRAMES).rename(place / "renamed")
    (place / "maps/msp/f1.npy").unlink()
    assert "3 frames are in maps, 1 of them new" in tool("save_scores", "--images", "renamed", *words)[1]
    set_trees.write(place / "renamed/f2.png", set_trees.photo(9, 48, 72))
    assert "3 frames are in maps, 1 of them new" in tool("save_scores", "--images", "renamed", *words)[1]
    (place / "renamed/f1.png").unlink()
    status, printed, complaint = tool("save_scores", "--images", "renamed", *words)
    assert (status, "2 frames are in maps, 0 of them new" in printed) == (0, True)
    assert "note: maps has score maps of 1 other frames too, such as f1; remove them" in complaint
    status, _, complaint = tool("save_scores", "--images", "photos", *words)
    assert (status, "expected score maps of dataset 'photos', found those of 'frames'" in complaint) == (2, True)
    assert open_scores(place / "maps").scores == ("msp",)


def test_maps_of_images_that_were_replaced_are_refused(place, tool):
    assert tool("ood_eval", "--sets", "road_anomaly", "--no-closed-set", *QUICK, "--save-scores", "maps")[0] == 0
    set_trees.write(place / FRAMES / "f2.png", set_trees.photo(9, 48, 72))
    export = ("maps/road_anomaly", "--method", "m", "--set", "S", "--out", "sent", "--sets", "road_anomaly")
    for name, words in (
        ("ood_eval", ("--predictions", "maps", "--sets", "road_anomaly", *QUICK)),
        ("export_scores", export),
    ):
        status, _, complaint = tool(name, *words)
        assert status == 2
        assert "f2.npy: expected the scores of the image of frame 'f2', found those of another" in complaint
    assert not (place / "sent").exists()
    assert tool("ood_eval", "--sets", "road_anomaly", "--no-closed-set", *QUICK, "--save-scores", "maps")[0] == 0
    expected = figures(place)
    assert tool("ood_eval", "--predictions", "maps", "--sets", "road_anomaly", *QUICK)[0] == 0
    assert figures(place) == expected


def test_maps_that_are_of_no_frame_are_told(place, tool):
    assert tool("save_scores", "--images", FRAMES, "--scores", "msp", "--out", "maps")[0] == 0
    set_trees.write_list(place / "data/road_anomaly", ["f0.png"])
    status, _, complaint = tool("ood_eval", "--predictions", "maps", "--sets", "road_anomaly", *QUICK)
    assert status == 0
    assert "note: 2 score maps in maps, such as f1, belong to no frame of road_anomaly and are ignored" in complaint
    assert "2 label maps, such as frames/f1.labels/labels_semantic.png, are not in the dataset's list" in complaint
