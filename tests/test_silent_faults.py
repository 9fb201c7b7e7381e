"""Commands that once gave a wrong value, or dropped what was typed, with exit status 0."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config

import anomaly
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.results.records import read_results
from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import TOOLS, status_of
from tests.test_ood_eval import ROOT, place, write_set  # noqa: F401  # noqa: F401

QUICK = ("--no-closed-set", "--heatmaps", "none", "--out", "out/run")
NETWORK = ("tiny.py", "tiny.pth")
DECLARED = ("--label-values", "0=known", "1=anomaly")
STORED = ("--predictions", "maps", "--heatmaps", "none", "--out", "out/run")


@pytest.fixture
def call(place, monkeypatch, capfd):
    """Run a tool's main in this process; give its exit status and all that it wrote."""

    def run(tool, *arguments):
        status = status_of(TOOLS[tool], *arguments)
        written = capfd.readouterr()
        return status, written.out + written.err

    return run


@pytest.fixture
def refused(call, place):
    """Run ``ood_eval``: it has to end with one sentence and leave nothing. Gives the sentence."""

    def run(*arguments, tool="ood_eval"):
        status, text = call(tool, *arguments)
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert status == 2, text
        assert len(errors) == 1, text
        assert "Traceback" not in text
        assert not (place / "out").exists()
        return errors[0]

    return run


def results(place):
    return json.loads((place / "out/run/results.json").read_text())


def write_folder(root, values, frames=3):
    for i in range(frames):
        set_trees.write(root / f"labels/f{i}.png", set_trees.label(values, 48, 72))
        set_trees.write(root / f"images/f{i}.png", set_trees.photo(i, 48, 72))


def write_maps(root, score, frames=3):
    (root / "maps").mkdir()
    for i in range(frames):
        np.save(root / f"maps/f{i}.npy", score(i))


def good(i):
    """A score that is higher where the set of the fixture ``place`` is anomalous."""
    noise = np.random.default_rng(i).random((48, 72), np.float32)
    return noise + set_trees.label((0, 0, 0, 1, 1, 0, 0), 48, 72).astype(np.float32) / 2


# ---- names that collide


def test_a_folder_named_as_a_dataset_of_the_same_run(call, place):
    """It is told apart by name, and each has values of its own."""
    write_set(place / "data/road_anomaly", frames=4)
    write_folder(place / "road_anomaly", (0, 1))
    folder = ("--folder", "road_anomaly/images", "road_anomaly/labels", *DECLARED)
    words = ("--sets", "road_anomaly", *folder, "--scores", "msp")
    assert call("ood_eval", *NETWORK, *words, *QUICK)[0] == 0
    first, mine = results(place)["datasets"]
    assert (first["dataset"], mine["dataset"]) == ("road_anomaly", "road_anomaly-folder")
    assert first["scores"]["msp"]["values"] != mine["scores"]["msp"]["values"]


def test_a_folder_can_be_named(call, place):
    write_set(place / "data/road_anomaly", frames=4)
    write_folder(place / "road_anomaly-first", (0, 1))
    folder = (
        "--folder",
        "road_anomaly-first/images",
        "road_anomaly-first/labels",
        "--label-values",
        "0=known",
        "1=anomaly",
    )
    words = ("--sets", "road_anomaly-first", *folder, "--folder-name", "mine", "--scores", "msp")
    assert call("ood_eval", *NETWORK, *words, *QUICK)[0] == 0
    first, mine = results(place)["datasets"]
    assert (first["dataset"], mine["dataset"]) == ("road_anomaly-first", "mine")
    assert first["scores"]["msp"]["values"] != mine["scores"]["msp"]["values"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "road_anomaly"])
def test_a_name_for_a_folder_is_a_plain_one(refused, place, name):
    write_folder(place / "mine", (0, 1))
    words = ("--folder", "mine/images", "mine/labels", *DECLARED, "--folder-name", name)
    assert "folder name" in refused(*NETWORK, *words, *QUICK)


def test_one_dataset_twice(refused):
    assert "'road_anomaly' 2 times" in refused(*NETWORK, "--sets", "road_anomaly", "road_anomaly", *QUICK)


# ---- label values that are guessed


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((0, 1, 255), ("0 (33.33 %), 1 (33.33 %), 255 (33.33 %)", "--label-values 0=known 1=anomaly 255=ignore")),
        ((0, 255), ("0 (50.00 %), 255 (50.00 %)", "--label-values 0=known 255=anomaly")),
        ((0, 3), ("0 (50.00 %), 3 (50.00 %)", "--label-values")),
        ((0, 1), ("0 (50.00 %), 1 (50.00 %)", "--label-values")),
    ],
)
def test_the_meaning_of_label_values_is_never_assumed(refused, place, values, told):
    write_folder(place / "mine", values)
    sentence = refused(*NETWORK, "--folder", "mine/images", "mine/labels", *QUICK)
    assert all(words in sentence for words in told)


def test_a_mask_of_0_and_255_under_another_declaration(refused, place):
    write_folder(place / "mine", (0, 255))
    words = ("--folder", "mine/images", "mine/labels", *DECLARED)
    sentence = refused(*NETWORK, *words, *QUICK)
    assert "[255]" in sentence
    assert "--label-values" in sentence


def test_a_declared_anomaly_that_no_label_has(refused, place):
    write_folder(place / "mine", (0, 255))
    words = ("--folder", "mine/images", "mine/labels", "--label-values", "0=known", "1=anomaly", "255=ignore")
    sentence = refused(*NETWORK, *words, *QUICK)
    assert "not one anomalous pixel" in sentence
    assert "0 (50.00 %), 255 (50.00 %)" in sentence


def test_an_undefined_value_in_the_last_label_is_told_before_the_network_is_asked(refused, place, monkeypatch):
    import anomaly.models.views

    monkeypatch.setattr(anomaly.models.views, "predict_inputs", lambda *_: pytest.fail("the network was asked"))
    write_folder(place / "mine", (0, 1), frames=9)
    set_trees.write(place / "mine/labels/f8.png", set_trees.label((0, 7), 48, 72))
    words = ("--folder", "mine/images", "mine/labels", *DECLARED)
    assert "f8.png" in refused(*NETWORK, *words, *QUICK)


@pytest.mark.slow
def test_shares_are_told_before_a_run_and_a_record_repeats_what_was_declared(call, place):
    write_folder(place / "mine", (0, 3, 3, 9))
    words = ("--folder", "mine/images", "mine/labels")
    declared = ("--label-values", "0=known", "3=anomaly", "9=ignore")
    status, text = call("ood_eval", *NETWORK, *words, *declared, *QUICK, "--scores", "msp")
    assert status == 0
    assert "mine: 3 frames; known 25.00 %, anomaly 50.00 %, ignored 25.00 % of the pixels" in text
    (place / "mine").rename(place / "moved")
    moved = ("--folder", "moved/images", "moved/labels")
    status, text = call("verify", "out/run/results.json", *NETWORK)
    assert (status, "--folder IMAGES LABELS" in text) == (2, True)
    status, text = call("verify", "out/run/results.json", *NETWORK, *moved)
    assert status == 0, text


def test_no_folder_takes_the_place_of_a_dataset_in_a_verification(call, place):
    write_folder(place / "mine", (0, 1))
    assert call("ood_eval", *NETWORK, "--sets", "road_anomaly", "--scores", "msp", *QUICK)[0] == 0
    folder = ("--folder", "mine/images", "mine/labels", *DECLARED)
    status, text = call("verify", "out/run/results.json", *NETWORK, *folder)
    assert (status, "omit --folder" in text) == (2, True)


# ---- calibrated on what is evaluated


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ("road_anomaly", "road_anomaly-first"),
        ("road_anomaly-second", "road_anomaly"),
        ("road_anomaly-first", "road_anomaly"),
    ],
)
def test_a_threshold_from_a_part_or_the_whole(refused, place, measured, chosen):
    write_set(place / "data/road_anomaly", frames=4)
    sentence = refused(*NETWORK, "--sets", measured, "--calibrate-on", chosen, *QUICK)
    assert measured in sentence
    assert f"of {chosen}, such as frame" in sentence


def street_hazards(root, frames=2):
    for i in range(frames):
        set_trees.write(root / f"street_hazards/images/test/t5/{i}.png", set_trees.photo(i, 48, 72))
        label = set_trees.label((1, 4, 13, 14), 48, 72)
        set_trees.write(root / f"street_hazards/annotations/test/t5/{i}.png", label)


def test_a_threshold_from_the_same_images_with_other_labels(refused, place):
    street_hazards(place / "data")
    words = ("--sets", "street_hazards-no_other", "--calibrate-on", "street_hazards", "--as-found")
    assert "street_hazards-no_other: expected images on which no threshold was chosen" in refused(
        *NETWORK, *words, *QUICK
    )


def test_a_threshold_from_copies_under_other_names(refused, place):
    """The folder's images are those of the dataset, stored anew: other bytes, the same pixels."""
    for i in range(3):
        set_trees.write(place / f"mine/labels/x{i}.png", set_trees.label((0, 1), 48, 72))
        (place / "mine/images").mkdir(parents=True, exist_ok=True)
        from PIL import Image

        Image.fromarray(set_trees.photo(i, 48, 72)).save(place / f"mine/images/x{i}.png", compress_level=0)
    folder = ("--folder", "mine/images", "mine/labels", *DECLARED)
    assert "of road_anomaly, such as frame 'x" in refused(*NETWORK, *folder, "--calibrate-on", "road_anomaly", *QUICK)


def test_a_record_tells_its_images_and_those_of_the_threshold(call, place):
    from anomaly.frames import image_hash

    write_set(place / "data/road_anomaly", frames=4)
    words = ("--sets", "road_anomaly-first", "road_anomaly-second", "--calibrate-on", "road_anomaly-first")
    assert call("ood_eval", *NETWORK, *words, *QUICK, "--scores", "msp")[0] == 0
    record = results(place)
    names = [image_hash(set_trees.photo(i, 48, 72)) for i in range(4)]
    first, second = record["datasets"]
    assert first["images"] == {"f0": names[0], "f1": names[1]}
    assert first["scores"]["msp"]["at_threshold"] == {}
    assert second["scores"]["msp"]["at_threshold"] != {}
    assert record["provenance"]["calibration"] == {"dataset": "road_anomaly-first", "images": sorted(names[:2])}


@pytest.mark.slow
def test_images_that_densities_were_fitted_to_are_refused(refused, call, place):
    bases = [str(ROOT / "configs/_base_" / name) for name in ("datasets/street_scenes.py", "default_runtime.py")]
    write_street_scenes(place / "data/street_scenes", train=3, val=2, open_world=2, size=(64, 96), seed=3)
    network = tiny_segmentor.CONFIG[: tiny_segmentor.CONFIG.index("test_pipeline")]
    (place / "net.py").write_text(f"_base_ = {bases}\n{network.replace('num_classes=4', 'num_classes=11')}")
    tiny_segmentor.write_checkpoint(place / "net.pth", Config.fromfile(place / "net.py"))
    densities = ("--own", "features:components=2:pixels=500")
    assert call("fit", "net.py", "net.pth", "--out", "fitted.npz", *densities)[0] == 0
    fitted = ("net.py", "net.pth", "--fitted", "fitted.npz")
    assert call("ood_eval", *fitted, "--sets", "street_scenes", "--heatmaps", "none", "--out", "open")[0] == 0
    image = sorted((place / "data/street_scenes/leftImg8bit/train").rglob("*.png"))[0]
    folder = place / "mine/images"
    folder.mkdir(parents=True)
    (folder / image.name).write_bytes(image.read_bytes())
    set_trees.write(place / f"mine/labels/{image.stem}.png", set_trees.label((0, 1), 64, 96))
    words = ("--folder", "mine/images", "mine/labels", *DECLARED)
    assert "the model's densities or scores were fitted on" in refused(*fitted, *words, *QUICK)


# ---- scores that are constant or point the wrong way


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (lambda i: np.zeros((48, 72), np.float32), "all values are equal (0)"),
        (lambda i: -good(i), "is the sign reversed?"),
        (lambda i: good(i) if i else np.ones((48, 72), np.float32), "in 1 of 3 frames, such as 'f0', all values are"),
    ],
)
def test_a_score_that_tells_nothing_or_the_contrary(call, place, score, told):
    write_maps(place, score)
    status, text = call("ood_eval", *STORED, "--sets", "road_anomaly", "--report")
    assert status == 0
    assert told in text
    (entry,) = results(place)["datasets"]
    assert [told in remark for remark in entry["scores"]["predictions"]["remarks"]] == [True]
    page = (place / "out/run/report.html").read_text()
    assert told.replace("'", "&#39;") in page
    status, text = call("compare", "out/run/results.json")
    assert told in text


def test_a_good_score_is_not_spoken_of(call, place):
    write_maps(place, good)
    status, text = call("ood_eval", *STORED, "--sets", "road_anomaly")
    assert (status, "predictions: " in text) == (0, False)
    assert results(place)["datasets"][0]["scores"]["predictions"]["remarks"] == []


# ---- input that is dropped


@pytest.mark.parametrize(
    "words",
    [
        ("--scales", "1", "0.5"),
        ("--scales", "1"),
        ("--score-at", "input"),
        ("--score-at", "features"),
        ("--precision", "bfloat16"),
        ("--batch", "4"),
        ("--threads", "1"),
        ("--stride", "8x8"),
        ("--window", "8x8"),
        ("--flip",),
        ("--device", "cpu"),
        ("--cfg-options", "a=1"),
        ("--no-closed-set",),
    ],
)
def test_what_only_a_network_has_is_refused_beside_stored_scores(refused, place, words):
    write_maps(place, good)
    assert words[0] in refused(*STORED, "--sets", "road_anomaly", *words)


def test_options_that_do_nothing_together(refused, place):
    write_maps(place, good)
    write_folder(place / "mine", (0, 1))
    folder = ("--folder", "mine/images", "mine/labels", *DECLARED)
    sets = ("--sets", "road_anomaly")
    assert "--memory" in refused(*STORED, *sets, "--binned", "--memory", "1")
    assert "--temporary" in refused(*STORED, *sets, "--binned", "--temporary", ".")
    assert "--data-root" in refused(*STORED, *folder, "--data-root", "data")
    assert "--report-frames" in refused(*STORED, *sets, "--report-frames", "3")
    assert "--scores: expected it once, found it twice" in refused(*STORED, *sets, "--scores", "a", "--scores", "b")


def test_statistics_that_no_score_uses(refused, place):
    from anomaly.models.fitted import FittedModel
    from anomaly.scores.statistics import Statistics

    learned = Statistics({}, {}, frozenset(), {}).state()
    FittedModel(anomaly.load_model("tiny.py", "tiny.pth"), (), statistics=learned).save("fitted.npz")
    words = ("--sets", "road_anomaly", "--fitted", "fitted.npz", *QUICK)
    assert "--fitted has no effect on msp" in refused(*NETWORK, *words, "--scores", "msp")
    assert "--fitted has no effect on" in refused(*NETWORK, *words)


@pytest.mark.slow
def test_a_score_beside_all_is_not_dropped(refused, call, place):
    words = ("--sets", "road_anomaly", *QUICK)
    assert "'vim' needs statistics" in refused(*NETWORK, *words, "--scores", "all", "vim")
    assert "'gmm_nll' needs the network's" in refused(*NETWORK, *words, "--scores", "all", "gmm_nll")
    assert call("ood_eval", *NETWORK, *words, "--scores", "all", "energy:temperature=2")[0] == 0
    assert list(results(place)["settings"]["scores"])[-1] == "energy:temperature=2"


# ---- numbers


@pytest.mark.slow
@pytest.mark.parametrize("threshold", ["-5e-06", "-.5", "-1e3", "0.25"])
def test_negative_thresholds_in_every_notation_and_their_verification(call, place, threshold):
    words = (
        "--sets",
        "road_anomaly",
        "--components",
        "obstacle_track",
        "--components-at",
        threshold,
        "--scores",
        "energy",
    )
    assert call("ood_eval", *NETWORK, *words, *QUICK)[0] == 0
    (entry,) = results(place)["datasets"]
    assert entry["scores"]["energy"]["components"]["threshold"] == float(threshold)
    status, text = call("verify", "out/run/results.json", *NETWORK)
    assert status == 0, text


def test_a_record_of_stored_scores_with_a_threshold_is_verified(call, place):
    write_maps(place, lambda i: good(i) - 2)
    words = ("--components", "obstacle_track", "--components-at", "-1.5", "--scores", "predictions")
    assert call("ood_eval", *STORED, "--sets", "road_anomaly", *words)[0] == 0
    status, text = call("verify", "out/run/results.json", "--predictions", "maps")
    assert status == 0, text


@pytest.mark.parametrize(
    "words", [("--memory", "inf"), ("--memory", "nan"), ("--tpr", "0"), ("--fpr", "1"), ("--tpr", "95")]
)
def test_numbers_out_of_range(refused, place, words):
    write_maps(place, good)
    assert words[0].lstrip("-") in refused(*STORED, "--sets", "road_anomaly", *words)


# ---- bookkeeping


def test_other_levels_have_options_and_are_in_the_record(call, place):
    from sklearn.metrics import roc_curve

    write_maps(place, good)
    words = ("--sets", "road_anomaly", "--tpr", "0.8", "--fpr", "0.2", "--bootstrap", "20", "--report")
    status, text = call("ood_eval", *STORED, *words)
    assert status == 0
    assert "FPR80" in text
    record = results(place)
    assert record["settings"]["levels"] == {"tpr": 0.8, "fpr": 0.2}
    score = record["datasets"][0]["scores"]["predictions"]
    truth = np.concatenate([set_trees.label((0, 0, 0, 1, 1, 0, 0), 48, 72).ravel()] * 3)
    fpr, tpr, _ = roc_curve(truth, np.concatenate([good(i).ravel() for i in range(3)]), drop_intermediate=False)
    assert score["values"]["fpr80"] == pytest.approx(fpr[np.argmax(tpr >= 0.8)], abs=1e-12)
    assert score["values"]["recall_at_fpr20"] == pytest.approx(tpr[fpr <= 0.2].max(), abs=1e-12)
    assert (
        score["confidence_intervals"]["fpr80"][0]
        <= score["values"]["fpr80"]
        <= score["confidence_intervals"]["fpr80"][1]
    )
    assert "FPR80" in (place / "out/run/report.html").read_text()
    assert call("verify", "out/run/results.json", "--predictions", "maps")[0] == 0


@pytest.mark.slow
def test_a_class_without_a_labelled_pixel_is_named(call, place):
    """Of the closed set of ``place`` no pixel is labelled ``tree``."""
    words = ("--sets", "road_anomaly", "--scores", "msp", "--heatmaps", "none", "--report", "--out", "out/run")
    status, text = call("ood_eval", *NETWORK, *words)
    assert status == 0
    assert "closed-set mIoU: no pixel is labelled tree" in text
    assert results(place)["closed_set"]["unlabelled"] == ["tree"]
    assert "no pixel is labelled tree" in (place / "out/run/report.html").read_text()
    assert read_results(place / "out/run/results.json").closed_set.unlabelled == ["tree"]
    with (place / "tiny.py").open("a") as config:
        config.write("test_cfg = dict(type='TestLoop')\n")
    command = [sys.executable, str(ROOT / "tools/test.py"), *NETWORK, "--work-dir", "tested"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "mIoU: no pixel is labelled tree" in done.stderr


def test_two_classes_of_one_name(refused, place):
    """``class_iou`` would have one of them."""
    config = (place / "tiny.py").read_text().replace("'sky'", "'road'")
    (place / "tiny.py").write_text(config)
    assert "classes of different names, found 'road' 2 times" in refused(*NETWORK, "--sets", "road_anomaly", *QUICK[1:])


# ---- found by trials of the commands


def test_a_record_that_keeps_silent_about_a_part_does_not_come_out_again(call, place):
    write_maps(place, good)
    words = ("--sets", "road_anomaly", "--bootstrap", "20", "--components", "obstacle_track")
    assert call("ood_eval", *STORED, *words)[0] == 0
    path = place / "out/run/results.json"
    record = path.read_text()
    assert call("verify", path, "--predictions", "maps")[0] == 0

    def edited(change):
        found = json.loads(record)
        change(found, found["datasets"][0]["scores"]["predictions"])
        path.write_text(json.dumps(found))
        return call("verify", path, "--predictions", "maps")

    for change in (
        lambda whole, score: whole.update(protocol={}),
        lambda whole, score: score["per_frame"].pop("f0"),
        lambda whole, score: score["per_frame"]["f0"].pop("ap"),
        lambda whole, score: score.update(confidence_intervals={}),
        lambda whole, score: score.update(components={}),
        lambda whole, score: score.update(remarks=["all is well"]),
    ):
        status, text = edited(change)
        assert (status, "DIFFERS" in text) == (1, True), text
    status, text = edited(lambda whole, score: whole.update(settings={}))
    assert (status, "error: " in text, "Traceback" in text) == (2, True, False)


def test_results_of_one_name_are_told_apart_by_their_folders(call, place):
    write_maps(place, good)
    for name in ("one", "two"):
        words = ("--sets", "road_anomaly", "--save-states", "--heatmaps", "none", "--out", name)
        assert call("ood_eval", "--predictions", "maps", *words)[0] == 0
    status, text = call("compare", "one/results.json", "two/results.json")
    assert (status, "maps (one)" in text, "maps (two) predictions" in text) == (0, True, True)
    status, text = call("compare", "one/results.json", "./one/results.json")
    assert (status, "name each file once" in text) == (2, True)


def test_one_image_under_two_names_is_told(call, place):
    write_folder(place / "mine", (0, 1))
    set_trees.write(place / "mine/images/f2.png", set_trees.photo(0, 48, 72))
    words = ("--folder", "mine/images", "mine/labels", *DECLARED, "--scores", "msp")
    status, text = call("ood_eval", *NETWORK, *words, *QUICK)
    assert (status, "1 of 3 frames have the same image as another frame, such as 'f2' and 'f0'" in text) == (0, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--as-found",), "--as-found"),
        (("--temporary", "nowhere"), "--temporary nowhere"),
        (("--binned", "--save-states"), "--save-states"),
        (("--post", "smooth", "smooth"), "'smooth' 2 times"),
        (("--bootstrap", "1e3"), "--bootstrap"),
        (("--limit",), "--limit"),
        (("--memory", "inf"), "--memory inf"),
    ],
)
def test_more_that_would_do_nothing_is_one_sentence(refused, place, words, told):
    write_maps(place, good)
    write_folder(place / "mine", (0, 1))
    assert told in refused(*STORED, "--folder", "mine/images", "mine/labels", *DECLARED, *words)


def test_a_score_twice_is_refused(refused):
    assert "'msp' 2 times" in refused(*NETWORK, "--sets", "road_anomaly", "--scores", "msp", "msp", *QUICK)


def test_a_pipeline_that_cannot_prepare_an_image_is_one_sentence(refused, place):
    words = ("--sets", "road_anomaly", "--cfg-options", "test_dataloader.dataset.pipeline.1.scale=64,48")
    assert "cannot prepare an image of 72x48" in refused(*NETWORK, *words, *QUICK)
