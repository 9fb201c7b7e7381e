"""``anomaly fit`` without OpenMMLab: a detector goes through every command; networks with densities; bad input."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from anomaly.datasets.paste import PasteSettings, paste_objects
from anomaly.models.fitted_file import KIND
from anomaly.utils.state_file import read_state
from tests.anomaly import set_trees
from tests.anomaly.tiny_backbones import FILE, labels_of, pictures
from tests.commands import enter_with_links, status_of

SIZE = (48, 64)
NETWORK = (
    FILE
    + """
import anomaly


def model():
    how = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "device": "cpu"}
    return anomaly.TorchModel(Net(), gives=("logits", "features"), **how)


def plain():
    return anomaly.TorchModel(nn.Conv2d(3, 2, 4, stride=4), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), device="cpu")
"""
)
BACKBONE = "net.py:Body:sizes=32:components=2:pixels=300"
NEW = ("--folder", "new/images", "new/labels", "--label-values", "0=known", "1=anomaly", "--heatmaps", "none")


def write_new(root, images):
    """Images with a bright square that is an anomaly."""
    for i, image in enumerate(images):
        label = np.zeros(image.shape[:2], np.uint8)
        label[20:36, 16:40] = 1
        set_trees.write(root / "images" / f"{i}.png", np.where(label[..., None] == 1, np.uint8([9, 250, 9]), image))
        set_trees.write(root / "labels" / f"{i}.png", label)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Ordinary images with labels, new ones, pasted ones, and files of a detector and of densities of a network."""
    root = tmp_path_factory.mktemp("world")
    (root / "net.py").write_text(NETWORK)
    for i, image in enumerate(pictures(4, SIZE)):
        set_trees.write(root / "ordinary/images" / f"{i}.png", image)
        set_trees.write(root / "ordinary/labels" / f"{i}.png", labels_of(image).numpy().astype(np.uint8))
    write_new(root / "new", pictures(3, SIZE, seed=5))
    box = np.pad(np.full((24, 14, 4), (250, 10, 200, 255), np.uint8), ((3, 3), (3, 3), (0, 0)))
    set_trees.write(root / "objects/box.png", box)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.chdir(root)
        ordinary = (Path("ordinary/images"), Path("ordinary/labels"))
        paste_objects(*ordinary, "objects", "pasted", PasteSettings(height=(0.4, 0.6)), limit=2)
        images = ("--images", "ordinary/images")
        assert status_of("anomaly fit", *images, "--backbone", BACKBONE, "--out", "detector") == 0
        words = ("--model", "net.py:model", *images, "--labels", "ordinary/labels", "--backbone", BACKBONE)
        assert status_of("anomaly fit", *words, "--own", "features:components=2", "--out", "network.npz") == 0
    return root


@pytest.fixture
def call(world, tmp_path, monkeypatch, capfd):
    """Run a command in a folder that has all these files; give its status and what it wrote."""
    enter_with_links(monkeypatch, tmp_path, world)
    capfd.readouterr()

    def run(command, *words):
        status = status_of(f"anomaly {command}", *words)
        written = capfd.readouterr()
        return status, written.out + written.err

    return run


DETECTOR = ("--fitted", "detector.npz", "net.py:Body")
FITTED = ("--model", "net.py:model", "--fitted", "network.npz", "net.py:Body")


def results(out):
    return json.loads(Path(out, "results.json").read_text())


def test_a_detector_goes_through_every_command(call):
    status, text = call(
        "evaluate", *DETECTOR, *NEW, "--out", "one", "--report", "--save-states", "--save-scores", "maps"
    )
    assert status == 0, text
    record = results("one")
    assert list(record["datasets"][0]["scores"]) == ["gmm_nll"]
    assert record["datasets"][0]["scores"]["gmm_nll"]["values"]["auroc"] > 0.9
    assert record["model"]["name"] == "detector"
    assert record["model"]["fitted"]["densities"][0]["backbone"]["spec"] == "net.py:Body"
    assert len(record["provenance"]["fitted"]["images"]) == 4

    assert call("evaluate", "--model", "detector.npz", *DETECTOR, *NEW, "--out", "two", "--save-states")[0] == 0
    assert results("two")["datasets"] == record["datasets"]
    status, text = call("compare", "one/results.json", "two/results.json", "--paired")
    assert status == 0, text
    status, text = call("verify", "one/results.json", *DETECTOR, "--folder", "new/images", "new/labels")
    assert status == 0, text
    assert "the result comes out again" in text
    stored = ("--predictions", "maps", *NEW, "--out", "three")
    assert call("evaluate", *stored)[0] == 0
    assert (
        results("three")["datasets"][0]["scores"]["gmm_nll"]["values"]
        == record["datasets"][0]["scores"]["gmm_nll"]["values"]
    )
    status, text = call("save-scores", *DETECTOR, "--images", "new/images", "--out", "saved", "--flip")
    assert status == 0, text
    status, text = call("look", "new/images", *DETECTOR, "--out", "look.html")
    assert status == 0, text
    assert "gmm_nll" in Path("look.html").read_text()


def test_densities_and_scores_of_a_network(call):
    scores = ("--scores", "all", "zscore_sum:of=gmm_nll+energy")
    status, text = call("evaluate", *FITTED, *NEW, *scores, "--out", "one", "--flip")
    assert status == 0, text
    found = results("one")["datasets"][0]["scores"]
    assert {"gmm_nll", "marginal_nll", "typicality", "knn", "vim", "msp", "energy"} <= set(found)
    status, text = call("verify", "one/results.json", *FITTED, "--folder", "new/images", "new/labels")
    assert status == 0, text
    assert call("evaluate", "--model", "net.py:model", *NEW, "--scores", "msp", "--out", "two", "--flip")[0] == 0
    plain = results("two")["datasets"][0]["scores"]["msp"]["values"]
    assert plain["auroc"] == pytest.approx(found["msp"]["values"]["auroc"], abs=1e-4)  # rounded with other scores


def test_what_was_fitted_is_told(call):
    words = (
        "--images",
        "ordinary/images",
        "--labels",
        "ordinary/labels",
        "--backbone",
        BACKBONE,
        "net.py:Other:bank=9",
    )
    status, text = call("fit", *words, "--outliers", "pasted", "--out", "more/detector.npz")
    assert status == 0, text
    lines = text.splitlines()
    assert "net.py:Body: 10 dimensions, 3 classes, diagonal Gaussians, and outliers; weight 1" in lines
    other = "net.py:Other: 10 dimensions, 3 classes, a bank of up to 9 features each, and outliers; weight "
    assert any(line.startswith(other) for line in lines)
    assert any(line.startswith("4 images in ") for line in lines)
    evaluate = ("--fitted", "more/detector.npz", "net.py:Body", "net.py:Other")
    assert f"wrote more/detector.npz, a detector: anomaly evaluate {' '.join(evaluate)} --data NAME" in lines
    assert call("evaluate", *evaluate, *NEW, "--out", "out")[0] == 0
    assert list(results("out")["datasets"][0]["scores"]) == ["gmm_nll", "outlier_ratio"]


def test_a_class_without_a_pixel_is_told(call):
    shutil.copytree("ordinary/images", "few/images")
    for path in Path("few/images").iterdir():
        set_trees.write(Path("few/labels", path.name), np.full(SIZE, 2, np.uint8))
    words = ("--images", "few/images", "--labels", "few/labels", "--backbone", BACKBONE, "--out", "few.npz")
    status, text = call("fit", *words)
    assert status == 0, text
    assert "note: 0, 1: no pixel in these images, so they count as unknown; give more images (--limit)" in text


def test_images_that_it_was_fitted_to_are_refused(call):
    shutil.copytree("new", "old", symlinks=False)
    shutil.copy("ordinary/images/2.png", "old/images/1.png")
    folder = ("--folder", "old/images", "old/labels", *NEW[3:])
    for number, model in enumerate((DETECTOR, FITTED)):
        status, text = call("evaluate", *model, *folder, "--out", "out")
        assert status == 2
        assert "frame '1' is one of the 4 images that the model's densities or scores were fitted on" in text
        assert not Path("out").exists()
        status, text = call("save-scores", *model, "--images", "old/images", "--out", f"maps{number}")
        assert (status, "is one of the 4 images that the model's densities or scores were" in text) == (2, True), text


def test_the_same_command_writes_the_same_file(call):
    contents = []
    for out in ("one.npz", "two.npz"):
        words = ("--images", "ordinary/images", "--backbone", BACKBONE, "--seed", 3, "--out", out)
        assert call("fit", *words)[0] == 0
        with read_state(Path(out), KIND) as (header, arrays):
            contents.append(({**header, "record": None}, [array.tobytes() for array in arrays]))
    assert contents[0] == contents[1]


IMAGES = ("--images", "ordinary/images")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", "none", "--backbone", BACKBONE), "none"),
        (("--backbone", BACKBONE), "expected --images FOLDER, or a model with training data (CONFIG CHECKPOINT)"),
        ((*IMAGES, "--backbone", "net.py:Body:foo=1"), "unknown parameter 'foo': it has stages, sizes"),
        ((*IMAGES, "--backbone", "net.py:Body:sizes=0"), "sizes: expected whole numbers of 1 or more, found 0"),
        ((*IMAGES, "--backbone", "net.py:Body:stages=4"), "stages: expected numbers of maps in increasing order"),
        ((*IMAGES, "--backbone", "net.py:Nobody"), "expected an object 'Nobody', found Body"),
        ((*IMAGES, "--backbone", BACKBONE, "--own", "none"), "own: expected a network that gives none, found none"),
        ((*IMAGES, "--backbone", BACKBONE, "--scores", "knn"), "--scores: expected a model whose scores are fitted"),
        ((*IMAGES, "--backbone", BACKBONE, "--limit", 0), "expected --limit and --pixels of 1 or more, found 0"),
        ((*IMAGES, "--backbone", BACKBONE, "--seed", 2**65), "--seed: expected an integer of 64 bits"),
        ((*IMAGES, "--backbone", BACKBONE, "--labels", "new"), "new"),
        (("--labels", "ordinary/labels", "--backbone", BACKBONE), "expected --images FOLDER"),
        ((*IMAGES, "--backbone", BACKBONE, "--outliers", "new"), "pasted_objects"),
        (
            (*IMAGES, "--model", "net.py:model", "--scores", "knn"),
            "scores: expected labelled images and a network with",
        ),
        ((*IMAGES, "--model", "net.py:plain"), "expected densities or scores to fit, found neither"),
        (
            (*IMAGES, "--model", "net.py:plain", "--own", "features:components=2"),
            "expected a network that gives features",
        ),
        (("--model", "net.py:model"), "expected --images FOLDER, because only a config of mmsegmentation names its"),
        ((*IMAGES, "--model", *DETECTOR[1:2], "--backbone", BACKBONE), "expected the backbone net.py:Body to be named"),
    ],
)
def test_bad_input_is_one_sentence(call, words, message):
    status, text = call("fit", *words, "--out", "bad.npz")
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert (status, len(errors)) == (2, 1), text
    assert message in errors[0]
    assert "Traceback" not in text
    assert not Path("bad.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "detector.npz"), "expected the backbone net.py:Body to be named, because its code is executed"),
        (("--fitted", "detector.npz", "net.py:Other"), "found one with other type, weights"),
        ((*DETECTOR, "net.py:Body"), "expected at most 1 backbones, one for each density that has one, found 2"),
        (("--fitted", "network.npz", "net.py:Body"), "expected the network it was fitted to (Net), found none"),
        (("--model", "net.py:plain", "--fitted", "network.npz", "net.py:Body"), "found one with other"),
        (("--model", "net.py:model", *DETECTOR), "expected no network, since this is a detector of its own"),
        (("--model", "net.py:model", "--fitted", "net.py"), "expected the state of what was fitted to training images"),
        ((*DETECTOR, "--scores", "knn"), "score 'knn' needs the network's features"),
        (
            (*DETECTOR, "--scores", "outlier_ratio"),
            "outlier_log_likelihood (only densities that were fitted to outliers",
        ),
        ((*DETECTOR, "--cfg-options", "a=1"), "--cfg-options: expected a config as the model"),
    ],
)
def test_files_that_do_not_fit_are_refused(call, words, message):
    status, text = call("evaluate", *words, *NEW, "--out", "out")
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert (status, len(errors)) == (2, 1), text
    assert message in errors[0]
    assert not Path("out").exists()
