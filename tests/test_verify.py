"""``anomaly verify``, ``anomaly control`` and ``anomaly export-scores`` as they are called."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from anomaly.results.records import read_results
from anomaly.results.verification import agreements
from tests.anomaly import set_trees
from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a tool in an empty folder; give its status, what it printed and what it complained of."""
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        status = status_of(name, *words)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def maps(tmp_path):
    """A set of 4 frames and score maps for it."""
    labels = {f"f{i}": (0, 0, 2, 0) for i in range(4)}
    set_trees.road_anomaly(tmp_path / "data/street_scenes/open_world", labels)
    (tmp_path / "maps").mkdir()
    for i, name in enumerate(labels):
        score = np.random.default_rng(i).random((set_trees.HEIGHT, set_trees.WIDTH)).astype(np.float32)
        np.save(tmp_path / "maps" / f"{name}.npy", -1000 * score)
    return tmp_path / "maps"


@pytest.fixture
def result(call, maps, tmp_path):
    options = ("--bootstrap", 50, "--components", "obstacle_track", "--limit", 3)
    status, _, complaint = call(
        "anomaly evaluate", "--predictions", maps, "--sets", "street_scenes", *options, "--out", "out"
    )
    assert status == 0, complaint
    return tmp_path / "out/results.json"


def change(result, edit):
    record = json.loads(result.read_text())
    edit(record)
    result.write_text(json.dumps(record))


def test_result_that_comes_out_again(call, result, maps):
    status, printed, _ = call("anomaly verify", result, "--predictions", maps)
    assert status == 0
    assert printed.splitlines() == [
        "model and its files: matches (largest difference 0.0e+00)",
        "protocol: matches (largest difference 0.0e+00)",
        "street_scenes, its frames and labels: matches (largest difference 0.0e+00)",
        "street_scenes, predictions: matches (largest difference 0.0e+00)",
        "the result comes out again",
    ]


def score_of(record):
    return record["datasets"][0]["scores"]["predictions"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: score_of(r)["values"].update(ap=0.99), "ap: recorded 0.99, found 0."),
        (lambda r: score_of(r)["values"].update(fpr95=None), "fpr95: recorded nan, found"),
        (
            lambda r: score_of(r)["confidence_intervals"]["auroc"].__setitem__(0, 0.0),
            "auroc's confidence interval: recorded 0.0",
        ),
        (lambda r: score_of(r)["components"].update(siou=0.5), "siou: recorded 0.5"),
        (lambda r: score_of(r).update(known_pixels=7), "known_pixels: recorded 7, found"),
        (lambda r: r["datasets"][0].update(fingerprint="0" * 64), "other frames or labels"),
        (lambda r: score_of(r)["per_frame"]["f1"].update(auroc=0.999), "auroc of frame f1: recorded 0.999, found"),
        (lambda r: score_of(r)["values"].pop("ap"), "ap: recorded nan, found"),
        (lambda r: r["datasets"][0].update(layout="published, I say"), "layout: recorded 'published, I say', found"),
        (lambda r: r["datasets"][0].update(published_frames=3), "published_frames: recorded 3, found"),
        (lambda r: r["datasets"][0].update(notes=["odd"]), "notes: recorded ['odd'], found []"),
        (lambda r: r["protocol"].update(ap="trapezoid"), "ap: recorded 'trapezoid', found"),
    ],
)
def test_forged_result_is_found_out(call, result, maps, edit, message):
    change(result, edit)
    status, printed, _ = call("anomaly verify", result, "--predictions", maps)
    assert status == 1
    assert message in printed
    assert printed.endswith("the result does NOT come out again\n")


def test_other_labels_are_found_out(call, result, maps, tmp_path):
    path = tmp_path / "data/street_scenes/open_world/frames/f1.labels/labels_semantic.png"
    set_trees.write(path, set_trees.label((0, 2, 2, 0)))
    status, printed, _ = call("anomaly verify", result, "--predictions", maps)
    assert status == 1
    assert "other frames or labels" in printed


def test_other_scores_are_found_out(call, result, maps):
    np.save(maps / "f2.npy", np.load(maps / "f1.npy"))
    status, printed, _ = call("anomaly verify", result, "--predictions", maps)
    assert status == 1
    assert "auroc: recorded" in printed


def test_what_is_not_measured_again_is_told(call, result, maps):
    classes = {"dataset": "D", "frames": 5, "miou": 0.99, "macc": 0.9, "aacc": 0.9, "class_iou": {}, "unlabelled": []}
    change(result, lambda r: r.update(closed_set=classes))
    status, printed, _ = call("anomaly verify", result, "--predictions", maps)
    assert status == 0
    assert "closed set: not measured again" in printed
    assert printed.endswith("the result comes out again, but for what was not measured again (closed set)\n")


def test_score_maps_of_another_checkpoint_are_told(call, result, maps):
    change(result, lambda r: r["provenance"].update(checkpoint={"sha256": "a" * 64}))
    stored = {"format": "own", "settings": {"checkpoint": "b" * 64}}
    record, again = read_results(result), read_results(result)
    again.provenance.pop("checkpoint")
    again.provenance["predictions"] = stored
    found = agreements(record, again, 1e-6)[0]
    assert found.faults == (f"checkpoint: another file (SHA-256 recorded {'a' * 64}, found {'b' * 64})",)


@pytest.mark.parametrize("tolerance", ["10", "-1", "nan", "inf"])
def test_tolerance_is_small(call, result, maps, tolerance):
    status, _, complaint = call("anomaly verify", result, "--predictions", maps, "--tolerance", tolerance)
    assert status == 2
    assert "--tolerance: expected a number from 0 to 0.01, found" in complaint


def test_verify_needs_something_to_measure(call, result):
    status, _, complaint = call("anomaly verify", result)
    assert status == 2
    assert "--predictions DIR" in complaint


def test_compare_refuses_other_frames(call, result, maps, tmp_path):
    other = tmp_path / "other/results.json"
    words = ("--predictions", maps, "--sets", "street_scenes", "--out", "other", "--heatmaps", "none")
    assert call("anomaly evaluate", *words)[0] == 0
    status, _, complaint = call("anomaly compare", result, other)
    assert status == 2
    assert "street_scenes: expected results of the same frames and labels, found 3 and 4 frames" in complaint
    assert call("anomaly compare", other, "--format", "latex")[1].startswith(r"\begin{tabular}")


def test_negative_control(call, maps):
    status, printed, _ = call("anomaly control", "--sets", "street_scenes")
    assert status == 0
    assert printed.count("passed") == 3


def test_export_of_scores(call, maps, tmp_path):
    words = ("maps", "--method", "net", "--set", "S-val", "--out", "out")
    status, printed, _ = call("anomaly export-scores", *words, "--sets", "street_scenes")
    assert status == 0
    assert "rescaled to [0, 1] by rank); 0 of 192 pixels" in printed
    with h5py.File(tmp_path / "out/anomaly_p/net/S-val/f0.hdf5") as file:
        assert file["value"].dtype == np.float16
    assert call("anomaly export-scores", *words, "--score", "msp")[0] == 2
    assert call("anomaly export-scores", *words, "--score", "")[0] == 2
    for option in (("--data-root", "data"), ("--limit", 1), ("--as-found",), ("--label-values", "1=anomaly")):
        status, _, complaint = call("anomaly export-scores", *words, *option)
        assert (status, complaint.startswith(f"error: {option[0]}: ")) == (2, True)
    np.save(maps / "f9.npy", np.zeros((6, 8), np.float32))
    (maps / "f0.npy").unlink()
    status, _, complaint = call("anomaly export-scores", *words)
    assert status == 2
    assert "expected only maps of this dataset, found f0.hdf5 (1 others)" in complaint
    (tmp_path / "file").write_text("")
    status, _, complaint = call("anomaly export-scores", *words[:-1], "file")
    assert (status, "expected a place for a folder" in complaint) == (2, True)


@pytest.mark.parametrize("words", [["."], ["maps/f0.npy"]])
def test_what_is_no_result(call, maps, words):
    for command in ("anomaly compare", "anomaly verify"):
        status, _, complaint = call(command, *words, *(("--predictions", maps) if command == "anomaly verify" else ()))
        assert status == 2
        assert "expected the results.json of an evaluation, found" in complaint
    assert call("anomaly compare", "x.json", "--paired", "--conventions")[0] == 2
    for table in ("--paired", "--conventions"):
        status, _, complaint = call("anomaly compare", "x.json", table, "--format", "markdown")
        assert (status, complaint.startswith("error: --format")) == (2, True)
    status, _, complaint = call("anomaly compare", "x.json", "--conventions", "--json", "nowhere/x.json")
    assert (status, "--json: expected a file in an existing folder" in complaint) == (2, True)
