"""``anomaly evaluate``: what it leaves behind, and how it ends on bad input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import anomaly.models.views
from anomaly.metrics import PixelMetrics
from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]
LABEL = (0, 0, 0, 2, 2, 0, 0)


def write_set(root, frames=3, values=LABEL):
    set_trees.write_list(root, [f"f{seed}.png" for seed in range(frames)])
    for seed in range(frames):
        frame = root / "frames" / f"f{seed}"
        set_trees.write(frame.with_suffix(".png"), set_trees.photo(seed, 48, 72))
        labels = frame.with_suffix(".labels") / "labels_semantic.png"
        set_trees.write(labels, set_trees.label(values, 48, 72))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with config, checkpoint, closed set and data/road_anomaly; also the working directory."""
    monkeypatch.chdir(tmp_path)
    tiny_segmentor.write_all(tmp_path)
    write_set(tmp_path / "data" / "road_anomaly")
    return tmp_path


def call(monkeypatch, *arguments):
    """Run the tool in this process; give its exit status."""

    status = status_of("anomaly evaluate", *arguments)
    return status


def call_compare(monkeypatch, *arguments):

    status = status_of("anomaly compare", *arguments)
    return status


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GOOD = ("tiny.py", "tiny.pth", "--sets", "road_anomaly", "--out", "out/run")


@pytest.mark.slow
def test_results_table_and_pictures(place):
    command = [sys.executable, str(ROOT / "tools/ood_eval.py"), *GOOD, "--profile", "--limit", "2"]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert "road_anomaly" in done.stdout
    assert "outside forward and reading" in done.stdout

    out = place / "out" / "run"
    result = json.loads((out / "results.json").read_text())
    scores = ["msp", "max_logit", "entropy", "energy"]
    assert result["settings"]["scores"] == scores
    assert result["settings"]["limit"] == 2
    assert result["closed_set"]["frames"] == 2
    assert 0 < result["closed_set"]["miou"] < 1
    assert {name: len(ends) for name, ends in result["settings"]["colour_scales"].items()} == dict.fromkeys(scores, 2)
    assert result["datasets"][0]["frames"] == 2
    assert all(0 < values["values"]["auroc"] < 1 for values in result["datasets"][0]["scores"].values())
    assert len(result["provenance"]["checkpoint"]["sha256"]) == 64
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["score"]) for row in rows] == [("road_anomaly", name) for name in scores]
    pictures = sorted(path.relative_to(out / "heatmaps").as_posix() for path in out.rglob("*.png"))
    assert pictures == sorted(f"road_anomaly/{name}/f{i}.png" for name in scores for i in range(2))
    assert sorted(os.listdir(out)) == ["heatmaps", "results.csv", "results.json"]
    assert os.listdir(out.parent) == ["run"]


@pytest.mark.slow
def test_new_results_replace_old_ones_and_nothing_else(place, monkeypatch):
    assert call(monkeypatch, *GOOD, "--no-closed-set", "--heatmaps", "first", "--scores", "energy", "msp") == 0
    out = place / "out" / "run"
    assert os.listdir(out / "heatmaps" / "road_anomaly") == ["energy"]
    (out / "notes.txt").write_text("mine")
    assert call(monkeypatch, *GOOD, "--no-closed-set", "--heatmaps", "none", "--scores", "msp") == 0
    assert sorted(os.listdir(out)) == ["notes.txt", "results.csv", "results.json"]
    result = json.loads((out / "results.json").read_text())
    assert result["closed_set"] is None
    assert list(result["datasets"][0]["scores"]) == ["msp"]


@pytest.mark.slow
def test_everything_that_can_be_measured(place, monkeypatch, capsys):
    write_set(place / "data" / "road_anomaly", frames=6)
    arguments = [
        "--sets",
        "road_anomaly-second",
        "--calibrate-on",
        "road_anomaly-first",
        "--components",
        "obstacle_track",
    ]
    more = ["--bootstrap", "50", "--save-states", "--heatmaps", "none", "--out", "out/run"]
    assert call(monkeypatch, "tiny.py", "tiny.pth", *arguments, *more, "--calibrate-by", "fpr=0.2") == 0
    assert "TPR@t" in capsys.readouterr().out

    out = place / "out" / "run"
    result = json.loads((out / "results.json").read_text())
    chosen = {"dataset": "road_anomaly-first", "frames": 3, "rule": "fpr", "level": 0.2}
    assert result["settings"]["threshold"] == chosen
    assert result["settings"]["components"]["at"] == "best_f1"
    (entry,) = result["datasets"]
    assert (entry["dataset"], entry["frames"]) == ("road_anomaly-second", 3)
    for name, score in entry["scores"].items():
        assert (
            score["confidence_intervals"]["auroc"][0]
            <= score["values"]["auroc"]
            <= score["confidence_intervals"]["auroc"][1]
        )
        assert 0 < score["at_threshold"]["fpr"] < 0.5
        assert score["components"]["threshold"] == score["values"]["best_f1_threshold"]
        assert score["open_world"] == {}
        state = PixelMetrics.load(out / "states" / f"road_anomaly-second.{name}.npz")
        assert state.compute()["auroc"] == score["values"]["auroc"]

    for option, shown in (("--paired", "each minus the first"), ("--conventions", "`smiyc`")):
        assert call_compare(monkeypatch, option, str(out / "results.json")) == 0
        text = capsys.readouterr().out
        assert shown in text
        assert "energy" in text
    (out / "states" / "road_anomaly-second.msp.npz").unlink()
    assert call_compare(monkeypatch, "--paired", str(out / "results.json")) == 2
    assert "evaluate again with anomaly evaluate --save-states" in capsys.readouterr().err
    assert call(monkeypatch, "tiny.py", "tiny.pth", *arguments[:2], *more[3:]) == 0
    assert sorted(os.listdir(out)) == ["results.csv", "results.json"]  # the old run's states are gone


def test_components_at_the_calibrated_threshold_and_bins(place, monkeypatch, capsys):
    options = ["--components", "obstacle_track", "--no-closed-set", "--heatmaps", "none", "--scores", "msp"]
    calibrated = ["--calibrate-on", "road_anomaly-first", "--components-at", "calibrated"]
    second = [word.replace("road_anomaly", "road_anomaly-second") for word in GOOD]
    assert call(monkeypatch, *second, *options, *calibrated) == 0
    (entry,) = json.loads((place / "out" / "run" / "results.json").read_text())["datasets"]
    score = entry["scores"]["msp"]
    assert score["components"]["threshold"] == score["at_threshold"]["threshold"]
    assert call(monkeypatch, *GOOD, *options, "--components-at", "0.25", "--binned") == 0
    (entry,) = json.loads((place / "out" / "run" / "results.json").read_text())["datasets"]
    score = entry["scores"]["msp"]
    assert score["components"]["threshold"] == 0.25
    assert score["bounds"]["ap"][0] <= score["values"]["ap"] <= score["bounds"]["ap"][1]


def without_anomaly(place):
    for path in place.glob("data/road_anomaly/frames/*/labels_semantic.png"):
        set_trees.write(path, np.zeros((48, 72), np.uint8))


def undefined_label(place):
    set_trees.write(place / "data/road_anomaly/frames/f1.labels/labels_semantic.png", np.full((48, 72), 7, np.uint8))


def label_of_another_size(place):
    set_trees.write(place / "data/road_anomaly/frames/f1.labels/labels_semantic.png", np.zeros((48, 70), np.uint8))


def cut_image(place):
    path = place / "data/road_anomaly/frames/f2.png"
    path.write_bytes(path.read_bytes()[:-500])


def no_image(place):
    (place / "data/road_anomaly/frames/f2.png").write_text("not an image")


def undefined_closed_set_label(place):
    set_trees.write(place / "closed/labels/1.png", np.full((48, 64), 9, np.uint8))


def cut_closed_set_image(place):
    path = place / "closed/images/1.png"
    path.write_bytes(path.read_bytes()[:-500])


def no_closed_set(place):
    (place / "closed").rename(place / "elsewhere")


def other_network(place):
    config = (place / "tiny.py").read_text()
    (place / "tiny.py").write_text(config.replace("channels=16", "channels=24"))


def cut_checkpoint(place):
    (place / "tiny.pth").write_bytes((place / "tiny.pth").read_bytes()[:5000])


def nan_weights(place):
    checkpoint = torch.load(place / "tiny.pth", weights_only=True)
    checkpoint["state_dict"]["decode_head.conv_seg.bias"][0] = torch.nan
    torch.save(checkpoint, place / "tiny.pth")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload-ran",)


def malicious_checkpoint(place):
    checkpoint = torch.load(place / "tiny.pth", weights_only=True)
    torch.save({**checkpoint, "message_hub": Payload()}, place / "tiny.pth")


def nothing(place):
    pass


TRACK = ("--components", "obstacle_track")
BAD = {
    "unknown set": (nothing, ["--sets", "road_anomly"], "unknown dataset 'road_anomly'"),
    "unknown score": (nothing, ["--scores", "mps"], "unknown score 'mps'"),
    "score of generative networks": (nothing, ["--scores", "gmm_nll"], "'gmm_nll' needs"),
    "missing data folder": (nothing, ["--data-root", "nowhere"], "nowhere"),
    "missing set": (nothing, ["--sets", "camvid_ood"], "camvid_ood"),
    "no frame asked for": (nothing, ["--limit", "0"], "at least 1"),
    "unknown device": (nothing, ["--device", "abacus"], "device 'abacus'"),
    "unknown calibration set": (nothing, ["--calibrate-on", "road"], "unknown dataset 'road'"),
    "unknown rule": (nothing, ["--calibrate-on", "road_anomaly", "--calibrate-by", "recall=0.9"], "tpr, fpr, best_f1"),
    "level that is no number": (nothing, ["--calibrate-on", "road_anomaly", "--calibrate-by", "tpr=x"], "found 'x'"),
    "level out of range": (nothing, ["--calibrate-on", "road_anomaly", "--calibrate-by", "tpr=95"], "found 95"),
    "bins and bootstrap": (nothing, ["--binned", "--bootstrap"], "--bootstrap needs every pixel's score"),
    "negative replicates": (nothing, ["--bootstrap", "-5"], "--bootstrap -5: expected"),
    "no memory": (nothing, ["--memory", "0"], "--memory 0: expected"),
    "no calibration": (nothing, [*TRACK, "--components-at", "calibrated"], "--calibrate-on"),
    "rule without a set": (nothing, ["--calibrate-by", "tpr=0.9"], "--calibrate-by: expected --calibrate-on too"),
    "components of no track": (
        nothing,
        ["--components-at", "0.5", "--scores", "msp"],
        ": expected --components too",
    ),
    "meaning of no folder": (nothing, ["--label-values", "1=anomaly"], "--label-values: expected --folder too"),
    "only its own threshold": (
        nothing,
        ["--calibrate-on", "road_anomaly"],
        "a threshold is not applied to the dataset",
    ),
    "one threshold, many scores": (nothing, [*TRACK, "--components-at", "0.5"], "expected one --scores"),
    "no folder for temporary files": (nothing, ["--memory", "1e-9", "--temporary", "nowhere"], "nowhere"),
    "option without value": (nothing, ["--cfg-options", "model"], "KEY=VALUE"),
    "output is a file": (nothing, ["--out", "tiny.py"], "output tiny.py"),
    "undefined label": (undefined_label, [], "f1.labels/labels_semantic.png"),
    "label of another size": (label_of_another_size, [], "70x48"),
    "cut image": (cut_image, [], "f2.png"),
    "not an image": (no_image, [], "f2.png"),
    "no anomalous pixel": (without_anomaly, [], "expected anomalies, found none in 3 label maps"),
    "missing closed set": (no_closed_set, [], "--no-closed-set"),
    "undefined closed-set label": (undefined_closed_set_label, [], "closed/labels/1.png"),
    "cut closed-set image": (cut_closed_set_image, [], "closed/images/1.png"),
    "impossible network": (nothing, ["--cfg-options", "model.decode_head.out_channels=3"], "cannot be built"),
    "no windows": (nothing, ["--cfg-options", "model.test_cfg.mode=slide"], "model.test_cfg.crop_size"),
    "misspelt setting": (nothing, ["--cfg-options", "modle.decode_head.channels=3"], "did you mean model?"),
    "setting of a training": (nothing, ["--cfg-options", "train_cfg.max_iters=3"], "does not read train_cfg"),
    "windows twice": (
        nothing,
        ["--no-closed-set", "--window", "32x32", "--cfg-options", "model.test_cfg.mode=slide"],
        "--window replaces it",
    ),
    "too many threads": (nothing, ["--threads", "1000000"], "--threads"),
    "other network": (other_network, [], "tiny.pth belongs to another network"),
    "cut checkpoint": (cut_checkpoint, [], "tiny.pth cannot be read"),
    "malicious checkpoint": (malicious_checkpoint, [], "tiny.pth was refused"),
    "NaN scores": (nan_weights, [], "score 'msp'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_status_2_and_leaves_nothing(place, monkeypatch, capfd, name):
    spoil, arguments, message = BAD[name]
    (place / "out" / "run").mkdir(parents=True)
    (place / "out" / "run" / "results.json").write_text("an earlier result")
    spoil(place)
    before = tree(place)
    good = [*GOOD]
    for option in good[2::2]:
        if option in arguments:  # of one value; no option may be there twice
            del good[good.index(option) : good.index(option) + 2]
    status = call(monkeypatch, *good, *arguments)
    _, stderr = capfd.readouterr()
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert stderr.rstrip().endswith(errors[0])
    assert "Traceback" not in stderr
    assert tree(place) == before
    assert not (place / "payload-ran").exists()
    assert [*os.listdir(place / "out"), *os.listdir(place / "out" / "run")] == ["run", "results.json"]


def test_failed_first_run_makes_no_output_folder(place, monkeypatch):
    without_anomaly(place)
    assert call(monkeypatch, *GOOD) == 2
    assert not (place / "out").exists()


@pytest.mark.parametrize("missing", ["config", "checkpoint"])
def test_missing_files_are_named(place, monkeypatch, capfd, missing):
    files = {"config": "tiny.py", "checkpoint": "tiny.pth"} | {missing: "absent"}
    assert call(monkeypatch, *files.values(), "--sets", "road_anomaly") == 2
    assert f"{missing} absent does not exist" in capfd.readouterr().err
    assert not (place / "work_dirs").exists()


def test_interrupt_leaves_nothing(place, monkeypatch, capfd):
    import anomaly.visualize.heatmaps

    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(anomaly.visualize.heatmaps.Panel, "draw", interrupted)
    assert call(monkeypatch, *GOOD) == 130
    assert not (place / "out").exists()


def test_pictures_show_the_images(place, monkeypatch):
    assert call(monkeypatch, *GOOD, "--no-closed-set", "--heatmaps", "first") == 0
    picture = np.asarray(Image.open(place / "out/run/heatmaps/road_anomaly/msp/f0.png"))
    image = set_trees.photo(0, 48, 72)
    windows = np.lib.stride_tricks.sliding_window_view(picture, image.shape)[:, :, 0]
    assert (windows == image).all((2, 3, 4)).any()


def test_stored_scores_give_the_same_figures_and_a_stopped_run_goes_on(place, monkeypatch, capfd):
    quick = ("--no-closed-set", "--heatmaps", "none", "--scores", "energy", "msp")
    assert call(monkeypatch, *GOOD, *quick, "--save-scores", "maps") == 0
    expected = json.loads((place / "out/run/results.json").read_text())["datasets"]
    stored = ("--predictions", "maps", "--sets", "road_anomaly", "--out", "out/stored", "--heatmaps", "none")
    assert call(monkeypatch, *stored, "--scores", "energy", "msp") == 0
    record = json.loads((place / "out/stored/results.json").read_text())
    assert record["datasets"] == expected
    assert record["model"]["name"] == "tiny"
    assert record["provenance"]["predictions"]["format"] == "own"

    calls = []
    predict = anomaly.models.views.predict_inputs
    monkeypatch.setattr(anomaly.models.views, "predict_inputs", lambda *a: calls.append(a) or predict(*a))
    (place / "maps/road_anomaly/msp/f1.npy").unlink()
    assert call(monkeypatch, *GOOD, *quick, "--save-scores", "maps") == 0
    assert len(calls) == 1
    assert json.loads((place / "out/run/results.json").read_text())["datasets"] == expected
    assert (place / "maps/road_anomaly/msp/f1.npy").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sets", "road_anomaly"), "or --predictions DIR"),
        (("tiny.py", "--sets", "road_anomaly"), "expected a checkpoint for this config, or tiny.py:NAME"),
        (
            (*GOOD[:2], "--predictions", "maps", "--sets", "road_anomaly"),
            "CONFIG, CHECKPOINT: expected no options of a model",
        ),
        (("--predictions", "maps", "--sets", "road_anomaly"), "maps: expected a folder with score maps, found none"),
        (("--predictions", "short", "--sets", "road_anomaly"), "each of 3 frames, found none for 'f1' (2 are missing)"),
        (
            ("--predictions", "small", "--sets", "road_anomaly"),
            "label's size, 72x48, found 36x24",
        ),
        (
            ("--predictions", "full", "--sets", "road_anomaly", "--scores", "msp"),
            "expected score 'msp', found predictions",
        ),
        (GOOD[:2], "expected --data NAME... or --folder IMAGES LABELS, found neither"),
    ],
)
def test_what_is_evaluated_has_to_be_clear(place, monkeypatch, capfd, words, message):
    for folder, frames, shape in (("short", 1, (48, 72)), ("small", 3, (24, 36)), ("full", 3, (48, 72))):
        (place / folder).mkdir()
        for i in range(frames):
            np.save(place / folder / f"f{i}.npy", np.random.default_rng(i).random(shape, np.float32))
    assert call(monkeypatch, *words, "--out", "out/run") == 2
    assert message in capfd.readouterr().err
    assert not (place / "out").exists()
