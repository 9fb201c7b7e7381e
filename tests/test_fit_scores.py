"""``anomaly fit CONFIG CHECKPOINT`` and what ``anomaly evaluate`` does with it, with inference and post-processing."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from anomaly.datasets.street_scenes import CLASSES as STREET_CLASSES
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.models.fitted_file import KIND
from anomaly.results.records import read_results
from anomaly.scores import SCORES
from anomaly.utils.state_file import read_state
from tests.anomaly import tiny_segmentor
from tests.commands import TOOLS, enter_with_links, status_of

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("--no-closed-set", "--heatmaps", "none", "--sets", "street_scenes")
OF_LOGITS = [name for name, score in SCORES.items() if set(score.needs) <= {"logits", "features"}]
DENSITIES = {"class_log_likelihood", "component_log_prob", "component_peak"}
OF_ALL = [name for name, score in SCORES.items() if set(score.needs) <= {"logits", "features", *DENSITIES}]
NETWORK = tiny_segmentor.CONFIG[: tiny_segmentor.CONFIG.index("test_pipeline")].replace(
    "num_classes=4", "num_classes=11"
)
BASES = [
    str(ROOT / "configs/_base_" / name)
    for name in ("datasets/street_scenes.py", "schedules/adamw_1k.py", "default_runtime.py")
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Generated scenes, with the config and checkpoint of a network for them."""
    root = tmp_path_factory.mktemp("scenes")
    write_street_scenes(root / "data/street_scenes", train=4, val=2, open_world=2, size=(64, 96), seed=3)
    workers = "".join(
        f"{split}_dataloader = dict(num_workers=0, persistent_workers=False)\n" for split in ("val", "test")
    )
    (root / "net.py").write_text(f"_base_ = {BASES}\n{workers}{NETWORK}")
    tiny_segmentor.write_checkpoint(root / "net.pth", Config.fromfile(root / "net.py"))
    return root


@pytest.fixture
def call(world, tmp_path, monkeypatch, capfd):
    """Run a tool's main in this process, in a folder of its own; give its exit status and what it wrote to stderr."""
    enter_with_links(monkeypatch, tmp_path, world)
    monkeypatch.setenv("DATA_ROOT", "data")

    def run(tool, *arguments):
        status = status_of(TOOLS[tool], *arguments)
        return status, capfd.readouterr().err

    return run


@pytest.fixture
def fitted(call):
    status, err = call(
        "fit", "net.py", "net.pth", "--out", "made/scores.npz", "--limit", 3, "--pixels", 600, "--own", "none"
    )
    assert status == 0, err
    return call


def results(path="out"):
    return json.loads(Path(path, "results.json").read_text())


@pytest.mark.slow
def test_all_scores_with_what_they_learned(fitted):
    combined = "rank_average:of=entropy+mahalanobis"
    words = ("net.py", "net.pth", *QUICK, "--fitted", "made/scores.npz", "--out", "out")
    status, err = fitted("ood_eval", *words, "--scores", "all", combined)
    assert status == 0, err
    record = results()
    assert list(record["datasets"][0]["scores"]) == [*OF_LOGITS, combined]
    assert record["settings"]["scores"] == [*OF_LOGITS, combined]
    assert len(record["provenance"]["fitted"]["sha256"]) == 64
    figures = [score["values"]["auroc"] for score in record["datasets"][0]["scores"].values()]
    assert len({round(figure, 6) for figure in figures}) > 8


@pytest.mark.slow
def test_views_and_post_processing_are_recorded_and_verified(fitted):
    how = ("--flip", "--scales", 1, 0.75, "--window", "64x64", "--stride", "32x48", "--batch", 3)
    post = ("--post", "none", "boundary:width=4,smooth:sigma=1.5", "--save-scores", "maps")
    words = ("net.py", "net.pth", *QUICK, "--out", "out", "--scores", "msp", "energy", *how, *post)
    status, err = fitted("ood_eval", *words)
    assert status == 0, err
    record = results()
    chain = "boundary:width=4,smooth:sigma=1.5"
    assert list(record["datasets"][0]["scores"]) == ["msp", f"msp+{chain}", "energy", f"energy+{chain}"]
    assert record["settings"]["post"] == ["none", chain]
    assert record["settings"]["inference"]["window"] == [64, 64]
    assert record["settings"]["inference"]["flip"] is True
    assert fitted("verify", "out/results.json", "net.py", "net.pth")[0] == 0
    stored = ("--predictions", "maps", "--sets", "street_scenes", "--heatmaps", "none", "--out", "again")
    assert fitted("ood_eval", *stored, "--post", "none", "smooth:sigma=1.5")[0] == 0
    again = results("again")["datasets"][0]["scores"]
    assert again["msp"]["values"] == record["datasets"][0]["scores"]["msp"]["values"]
    assert again["msp+smooth:sigma=1.5"]["values"] != again["msp"]["values"]
    status, err = fitted("ood_eval", *stored, "--post", chain)
    assert status == 2
    assert "needs the network's classes, and stored scores have none" in err


@pytest.mark.slow
def test_what_is_refused(fitted, tmp_path):
    words = ("net.py", "net.pth", *QUICK, "--out", "out")
    refused = {
        ("--scores", "knn"): "score 'knn' needs statistics of training images, found none; fit them "
        "with `anomaly fit`, and pass the file with --fitted",
        ("--scores", "gmm_nll"): "needs the network's class_log_likelihood (`anomaly fit` fits densities to any",
        ("--fitted", "none.npz"): "none.npz: expected the state of what was fitted to training images, found no such",
        ("--window", "64"): "--window: expected HEIGHTxWIDTH such as 512x1024, found '64'",
        ("--stride", "8x8"): "stride: expected a window too",
        ("--threads", "0"): "--threads: expected 1 to 1024, found 0",
        ("--post", "never:names=moon"): "expected names of the network's classes",
    }
    for extra, message in refused.items():
        status, err = fitted("ood_eval", *words, *extra)
        assert (status, message in err) == (2, True), err
    weights = torch.load("net.pth", weights_only=True)
    next(iter(weights["state_dict"].values())).add_(0.5)
    torch.save(weights, "other.pth")
    status, err = fitted("ood_eval", "net.py", "other.pth", *words[2:], "--fitted", "made/scores.npz")
    assert status == 2
    assert "expected the network it was fitted to, found one with other weights" in err
    assert not Path("out").exists()


@pytest.mark.slow
def test_stored_maps_belong_to_what_was_fitted(fitted):
    fit = ("net.py", "net.pth", "--limit", 3, "--pixels", 600, "--scores", "sml", "--seed", 5, "--own", "none")
    assert fitted("fit", *fit, "--out", "made/other.npz")[0] == 0
    words = ("net.py", "net.pth", *QUICK, "--scores", "sml", "--save-scores", "maps", "--out", "out")
    assert fitted("ood_eval", *words, "--fitted", "made/scores.npz")[0] == 0
    before = results()
    settings = json.loads(Path("maps/street_scenes/scores.json").read_text())["settings"]
    assert settings["fitted"] == hashlib.sha256(Path("made/scores.npz").read_bytes()).hexdigest()
    status, err = fitted("ood_eval", *words, "--fitted", "made/other.npz")
    assert status == 2
    assert "expected score maps of settings" in err
    assert results() == before
    assert fitted("ood_eval", *words, "--fitted", "made/scores.npz")[0] == 0


@pytest.mark.slow
def test_images_that_were_learned_from_are_refused(fitted):
    for folder, ending, name in (
        ("leftImg8bit", "_leftImg8bit", "images"),
        ("gtFine", "_gtFine_labelTrainIds", "labels"),
    ):
        Path("own", name).mkdir(parents=True)
        for path in Path("data/street_scenes", folder, "train").rglob(f"*{ending}.png"):
            shutil.copy(path, Path("own", name, path.name.replace(ending, "")))
    meaning = ("--label-values", "0=anomaly", "1-254=known", "255=ignore")
    words = ("net.py", "net.pth", "--no-closed-set", "--heatmaps", "none", "--out", "out", "--scores", "sml")
    folder = ("--folder", "own/images", "own/labels", *meaning)
    status, err = fitted("ood_eval", *words, *folder, "--fitted", "made/scores.npz")
    assert status == 2
    assert "is one of the 3 images that the scores' statistics were fitted on" in err
    options = ("--fitted", "made/scores.npz", "--scores", "sml", "--images", "own/images", "--out", "maps")
    status, err = fitted("save_scores", "net.py", "net.pth", *options)
    assert status == 2
    assert "is one of the 3 images that the model's densities or scores were fitted on" in err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--limit", 0), "expected --limit and --pixels of 1 or more, found 0 and 50000"),
        (("--out", "scores.txt"), "--out: expected a file name that ends in .npz, found scores.txt"),
        (("--scores", "nosuch"), "unknown score 'nosuch'"),
        (
            ("--scores", "sml", "gmm_nll", "--own", "none"),
            "score 'gmm_nll' needs the network's class_log_likelihood (`anomaly fit` fits",
        ),
        (
            ("--scores", "zscore_sum:of=sml+typicality", "--own", "none"),
            "needs the network's class_log_likelihood",
        ),
        (("--limit", 3, "--pixels", 2), "expected at least one pixel for each of the 3 images, found 2"),
        (("--labels", "data"), "--labels: expected --images FOLDER too, found none"),
        *(((option,), f"unrecognized arguments: {option}") for option in ("--flip", "--scales=2", "--score-at=input")),
        (("--fitted", "scores.npz"), "unrecognized arguments: --fitted"),
    ],
)
def test_bad_arguments(call, extra, message):
    out = () if "--out" in extra else ("--out", "s.npz")
    status, err = call("fit", "net.py", "net.pth", *out, *extra)
    assert status == 2
    assert message in err
    assert not Path("s.npz").exists()


@pytest.mark.slow
def test_classes_in_another_order(call):
    checkpoint = torch.load("net.pth", weights_only=True)
    names = list(STREET_CLASSES)
    torch.save({**checkpoint, "meta": {"CLASSES": names}}, "right.pth")
    torch.save({**checkpoint, "meta": {"CLASSES": names[::-1]}}, "wrong.pth")
    fit = ("--out", "s.npz", "--limit", 1, "--own", "none")
    for tool, words in (("fit", fit), ("ood_eval", (*QUICK, "--out", "out"))):
        status, err = call(tool, "net.py", "wrong.pth", *words, "--scores", "msp")
        assert status == 2
        assert f"wrong.pth was trained on the classes {names[-1]}, {names[-2]}" in err
        assert call(tool, "net.py", "right.pth", *words, "--scores", "msp")[0] == 0


@pytest.mark.slow
def test_combinations_and_parameters_are_fitted_by_what_they_are_of(call):
    combined = "zscore_sum:of=entropy+sml"
    fit = ("net.py", "net.pth", "--out", "s.npz", "--limit", 2, "--window", "64x64", "--own", "none")
    status, err = call("fit", *fit, "--scores", combined, "knn:k=3", "knn:k=2")
    assert status == 0, err
    with read_state(Path("s.npz"), KIND) as (header, arrays):
        assert header["statistics"]["scores"] == ["entropy", "sml", "knn"]
        assert header["members"] == []
        list(arrays)
    words = ("net.py", "net.pth", *QUICK, "--fitted", "s.npz", "--scores", combined, "knn:k=3", "sml")
    with pytest.warns(UserWarning, match=r"was fitted with window 64x64 \(here the whole\)$"):
        status, err = call("ood_eval", *words, "--out", "out")
    assert status == 0, err
    assert list(results()["datasets"][0]["scores"]) == [combined, "knn:k=3", "sml"]


@pytest.mark.slow
def test_densities_of_the_features_keep_logits_and_closed_set(call):
    """The likelihood is one more output of the network; what it gave before stays the same to the last bit."""
    status, err = call(
        "fit", "net.py", "net.pth", "--out", "fitted.npz", "--limit", 3, "--own", "features:components=2"
    )
    assert status == 0, err
    with read_state(Path("fitted.npz"), KIND) as (header, arrays):
        assert [member["settings"]["components"] for member in header["members"]] == [2]
        assert set(header["statistics"]["scores"]) >= set(OF_LOGITS) | {"typicality", "standardised_nll"}
        assert ("no pixel in these images" in err) == (0 in header["record"]["pixels"])
        list(arrays)
    how = ("--sets", "street_scenes", "--heatmaps", "none")
    assert (
        call("ood_eval", "net.py", "net.pth", *how, "--fitted", "fitted.npz", "--out", "new", "--scores", "all")[0] == 0
    )
    assert call("ood_eval", "net.py", "net.pth", *how, "--out", "old")[0] == 0
    new, old = (read_results(Path(name, "results.json")) for name in ("new", "old"))
    assert new.closed_set == old.closed_set
    assert 0 < new.closed_set.miou < 1
    assert set(new.datasets[0].scores) == set(OF_ALL)
    assert all(new.datasets[0].scores[name] == values for name, values in old.datasets[0].scores.items())
    assert call("verify", "new/results.json", "net.py", "net.pth", "--fitted", "fitted.npz")[0] == 0
