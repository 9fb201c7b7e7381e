"""``anomaly fit-scores`` and what ``anomaly evaluate`` does with it, with inference and post-processing options."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from anomaly.datasets.street_scenes import CLASSES as STREET_CLASSES
from anomaly.scores import SCORES
from anomaly.scores.statistics import Statistics
from tests.test_fit_gmm import call, scenes  # noqa: F401

QUICK = ("--no-closed-set", "--heatmaps", "none", "--sets", "street_scenes")
OF_LOGITS = [name for name, score in SCORES.items() if set(score.needs) <= {"logits", "features"}]


@pytest.fixture
def fitted(call, scenes):
    status, err = call("fit_scores", "net.py", "net.pth", "--out", "made/scores.npz", "--images", 3, "--pixels", 600)
    assert status == 0, err
    return call


def results(path="out"):
    return json.loads(Path(path, "results.json").read_text())


@pytest.mark.slow
def test_all_scores_with_their_statistics(fitted):
    combined = "rank_average:of=entropy+mahalanobis"
    words = ("net.py", "net.pth", *QUICK, "--statistics", "made/scores.npz", "--out", "out")
    status, err = fitted("ood_eval", *words, "--scores", "all", combined)
    assert status == 0, err
    record = results()
    assert list(record["datasets"][0]["scores"]) == [*OF_LOGITS, combined]
    assert record["settings"]["scores"] == [*OF_LOGITS, combined]
    assert len(record["provenance"]["statistics"]["sha256"]) == 64
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
        "with `anomaly fit-scores`, and pass the file with --statistics",
        (
            "--scores",
            "gmm_nll",
        ): "needs the network's class_log_likelihood (`gmmseg fit` fits mixtures to any",
        ("--statistics", "none.npz"): "none.npz: expected the state of score statistics, found no such file",
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
    status, err = fitted("ood_eval", "net.py", "other.pth", *words[2:], "--statistics", "made/scores.npz")
    assert status == 2
    assert "expected statistics of this network" in err
    assert not Path("out").exists()


@pytest.mark.slow
def test_stored_maps_belong_to_their_statistics(fitted):
    fit = ("net.py", "net.pth", "--images", 3, "--pixels", 600, "--scores", "sml", "--seed", 5)
    assert fitted("fit_scores", *fit, "--out", "made/other.npz")[0] == 0
    words = ("net.py", "net.pth", *QUICK, "--scores", "sml", "--save-scores", "maps", "--out", "out")
    assert fitted("ood_eval", *words, "--statistics", "made/scores.npz")[0] == 0
    before = results()
    settings = json.loads(Path("maps/street_scenes/scores.json").read_text())["settings"]
    assert settings["statistics"] == hashlib.sha256(Path("made/scores.npz").read_bytes()).hexdigest()
    status, err = fitted("ood_eval", *words, "--statistics", "made/other.npz")
    assert status == 2
    assert "expected score maps of settings" in err
    assert results() == before
    assert fitted("ood_eval", *words, "--statistics", "made/scores.npz")[0] == 0


@pytest.mark.slow
def test_photographs_that_were_learned_from_are_refused(fitted):
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
    status, err = fitted("ood_eval", *words, *folder, "--statistics", "made/scores.npz")
    assert status == 2
    assert "is one of the 3 images that the scores' statistics were fitted on" in err
    options = ("--statistics", "made/scores.npz", "--scores", "sml", "--images", "own/images", "--out", "maps")
    status, err = fitted("save_scores", "net.py", "net.pth", *options)
    assert status == 2
    assert "is one of the 3 images that the scores' statistics were fitted on" in err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--images", 0), "expected --images and --pixels of 1 or more, found 0 and 50000"),
        (("--out", "scores.txt"), "--out: expected a file name that ends in .npz, found scores.txt"),
        (("--scores", "nosuch"), "unknown score 'nosuch'"),
        (
            ("--scores", "sml", "gmm_nll"),
            "score 'gmm_nll' needs the network's class_log_likelihood (`gmmseg fit` fits",
        ),
        (("--scores", "zscore_sum:of=sml+typicality"), "needs the network's class_log_likelihood"),
        (("--images", 3, "--pixels", 2), "expected at least one pixel for each of the 3 images, found 2"),
        *(((option,), f"unrecognized arguments: {option}") for option in ("--flip", "--scales=2", "--score-at=input")),
        (("--statistics", "scores.npz"), "unrecognized arguments: --statistics"),
    ],
)
def test_bad_arguments(call, scenes, extra, message):
    out = () if "--out" in extra else ("--out", "s.npz")
    status, err = call("fit_scores", "net.py", "net.pth", *out, *extra)
    assert status == 2
    assert message in err
    assert not Path("s.npz").exists()


@pytest.mark.slow
def test_classes_in_another_order(call, scenes):
    checkpoint = torch.load("net.pth", weights_only=True)
    names = list(STREET_CLASSES)
    torch.save({**checkpoint, "meta": {"CLASSES": names}}, "right.pth")
    torch.save({**checkpoint, "meta": {"CLASSES": names[::-1]}}, "wrong.pth")
    for tool, words in (("fit_scores", ("--out", "s.npz", "--images", 1)), ("ood_eval", (*QUICK, "--out", "out"))):
        status, err = call(tool, "net.py", "wrong.pth", *words, "--scores", "msp")
        assert status == 2
        assert f"wrong.pth was trained on the classes {names[-1]}, {names[-2]}" in err
        assert call(tool, "net.py", "right.pth", *words, "--scores", "msp")[0] == 0


@pytest.mark.slow
def test_combinations_and_parameters_are_fitted_by_what_they_are_of(call, scenes):
    combined = "zscore_sum:of=entropy+sml"
    fit = ("net.py", "net.pth", "--out", "s.npz", "--images", 2, "--window", "64x64")
    status, err = call("fit_scores", *fit, "--scores", combined, "knn:k=3", "knn:k=2")
    assert status == 0, err
    assert list(Statistics.load(Path("s.npz")).fitted) == ["entropy", "sml", "knn"]
    words = ("net.py", "net.pth", *QUICK, "--statistics", "s.npz", "--scores", combined, "knn:k=3", "sml")
    with pytest.warns(UserWarning, match=r"s\.npz: .* were fitted with window 64x64 \(here the whole\)$"):
        status, err = call("ood_eval", *words, "--out", "out")
    assert status == 0, err
    assert list(results()["datasets"][0]["scores"]) == [combined, "knn:k=3", "sml"]
