"""``gmmseg fit``: from a softmax network to a config and checkpoint that the other tools take like any other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmseg.registry import DATASETS

from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.models.mmseg import build_model
from anomaly.results.records import read_results
from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import TOOLS, status_of

ROOT = Path(__file__).resolve().parents[1]
NETWORK = tiny_segmentor.CONFIG[: tiny_segmentor.CONFIG.index("test_pipeline")].replace(
    "num_classes=4", "num_classes=11"
)
BASES = [
    str(ROOT / "configs/_base_" / name)
    for name in ("datasets/street_scenes.py", "schedules/adamw_1k.py", "default_runtime.py")
]


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Run a tool's main in this process, in an empty folder; give its exit status and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", "data")

    def run(tool, *arguments):
        status = status_of(TOOLS[tool], *arguments)
        return status, capfd.readouterr().err

    return run


@pytest.fixture
def scenes(tmp_path):
    """Generated scenes, with the config and checkpoint of a network for them."""
    write_street_scenes(tmp_path / "data/street_scenes", train=4, val=2, open_world=2, size=(64, 96), seed=3)
    workers = "".join(
        f"{split}_dataloader = dict(num_workers=0, persistent_workers=False)\n" for split in ("val", "test")
    )
    (tmp_path / "net.py").write_text(f"_base_ = {BASES}\n{workers}{NETWORK}")
    tiny_segmentor.write_checkpoint(tmp_path / "net.pth", Config.fromfile(tmp_path / "net.py"))


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_fit_evaluate_and_test(call, tmp_path):
    status, err = call("fit_gmm", "net.py", "net.pth", "--out", "made/fitted", "--images", 3, "--components", 2)
    assert status == 0, err
    assert sorted(path.name for path in Path("made/fitted").iterdir()) == ["net_posthoc-gmm.pth", "net_posthoc-gmm.py"]
    fitted = "made/fitted/net_posthoc-gmm.py", "made/fitted/net_posthoc-gmm.pth"
    record = torch.load(fitted[1], weights_only=True)["meta"]["posthoc"]
    assert record["images"] == 3
    assert len(record["checkpoint"]["sha256"]) == 64
    assert 0 < sum(record["pixels"]) <= 3 * 80 * 120  # images of 320x480 after the resize, at a quarter of it
    assert ("no pixel of" in err) == bool(record["unseen_classes"])

    (tmp_path / "data").rename(tmp_path / "elsewhere")
    place = ("--data-root", "elsewhere")
    assert call("ood_eval", *fitted, "--sets", "street_scenes", "--out", "new", *place)[0] == 0
    assert call("ood_eval", "net.py", "net.pth", "--sets", "street_scenes", "--out", "old", *place)[0] == 0
    new, old = read_results(tmp_path / "new/results.json"), read_results(tmp_path / "old/results.json")
    assert new.closed_set == old.closed_set
    assert 0 < new.closed_set.miou < 1
    assert set(new.datasets[0].scores) == {"gmm_nll", *old.datasets[0].scores}
    assert all(new.datasets[0].scores[name] == values for name, values in old.datasets[0].scores.items())
    assert len(list(Path("new/heatmaps/street_scenes/gmm_nll").glob("*.png"))) == 2

    status, err = call("test", *fitted, "--work-dir", "tested", "--out", "test.json", *place)
    assert status == 0, err
    assert json.loads(Path("test.json").read_text())["mIoU"] == pytest.approx(100 * old.closed_set.miou, abs=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_frozen_copy_of_the_backbone(call, tmp_path):
    status, err = call("fit_gmm", "net.py", "net.pth", "--out", "made", "--frozen")
    assert status == 2
    assert "expected a backbone with pretrained weights for the frozen copy, found one without" in err
    tail = (
        "model['backbone'] = dict(type='gmmseg.EfficientNetLite0', pretrained=True)\n"
        "model['decode_head']['in_channels'] = [24, 40, 112, 320]\n"
    )
    Path("lite.py").write_text(Path("net.py").read_text() + tail)
    tiny_segmentor.write_checkpoint(tmp_path / "lite.pth", Config.fromfile("lite.py"))
    fit = ("--images", 3, "--components", 2, "--frozen")
    status, err = call("fit_gmm", "lite.py", "lite.pth", "--out", "made", *fit)
    assert status == 0, err
    fitted = "made/lite_frozen-gmm.py", "made/lite_frozen-gmm.pth"
    record = torch.load(fitted[1], weights_only=True)["meta"]["posthoc"]
    assert set(record["fits"]) == {"densities", "frozen"}
    assert call("fit_gmm", "lite.py", "lite.pth", "--out", "made", *fit[:-1])[0] == 0
    plain = "made/lite_posthoc-gmm.py", "made/lite_posthoc-gmm.pth"
    figures = []
    for name, network in (("a", fitted), ("b", plain)):
        assert call("ood_eval", *network, "--sets", "street_scenes", "--heatmaps", "none", "--out", name)[0] == 0
        figures.append(read_results(tmp_path / name / "results.json"))
    assert figures[0].closed_set == figures[1].closed_set
    scores = [result.datasets[0].scores for result in figures]
    assert scores[0]["energy"] == scores[1]["energy"]
    assert scores[0]["gmm_nll"] != scores[1]["gmm_nll"]


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_a_seed_decides_all(call):
    made = {}
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        options = ("--images", 2, "--pixels", 40, "--seed", seed)
        assert call("fit_gmm", "net.py", "net.pth", "--out", name, *options)[0] == 0
        made[name] = torch.load(f"{name}/net_posthoc-gmm.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(value, made["same"][key]) for key, value in made["first"].items())
    assert not torch.equal(made["first"]["densities.means"], made["other"]["densities.means"])


@pytest.fixture
def tiny(tmp_path, call):
    """A network of four classes, the last of which no label has, and its data; the input is padded to 64x96."""
    tiny_segmentor.write_all(tmp_path, "train_dataloader = val_dataloader\n")


def what_inference_sees(model, inputs, metas):
    """The crops that inference takes of an image, and the features under ``conv_seg`` of each."""
    crops, features = [], []
    encode_decode = type(model).encode_decode

    def watched(crop, crop_metas):
        crops.append(crop)
        return encode_decode(model, crop, crop_metas)

    model.encode_decode = watched
    hook = model.decode_head.conv_seg.register_forward_hook(lambda _, given, out: features.append(given[0]))
    with torch.no_grad():
        model.inference(inputs, metas)
    hook.remove()
    return crops, features


def naive_class_means(slide):
    """Mean unit feature of every class over the set, and its pixels, pixel by pixel; labels are cut as images are."""
    config = Config.fromfile("tiny.py")
    if slide:
        config.model.test_cfg = slide
    model = build_model(config).eval()
    model.load_state_dict(torch.load("tiny.pth", weights_only=True)["state_dict"])
    dataset = DATASETS.build(config.val_dataloader.dataset)
    sums, counts = torch.zeros(4, 16), torch.zeros(4)
    for data in dataset:
        batch = model.data_preprocessor({name: [value] for name, value in data.items()})
        metas = [dict(batch["data_samples"][0].metainfo)]
        _, features = what_inference_sees(model, batch["inputs"], metas)
        label, (height, width) = data["data_samples"].gt_sem_seg.data[0], data["inputs"].shape[1:]
        painted = torch.full(batch["inputs"].shape[2:], 255.0)  # the label, at the size of the network's input
        for y in range(height):
            for x in range(width):
                painted[y, x] = label[int(y * label.shape[0] / height), int(x * label.shape[1] / width)]
        crops, _ = what_inference_sees(model, painted.expand(1, 3, -1, -1), metas)
        for feature, crop in zip(features, crops, strict=True):
            rows, columns = crop.shape[2] // feature.shape[2], crop.shape[3] // feature.shape[3]
            for y in range(feature.shape[2]):
                for x in range(feature.shape[3]):
                    k = int(crop[0, 0, y * rows + rows // 2, x * columns + columns // 2])  # the middle
                    if k != 255:
                        sums[k] += F.normalize(feature[0, :, y, x], dim=0)
                        counts[k] += 1
    return sums / counts[:, None], counts


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("slide", [None, {"mode": "slide", "crop_size": (32, 40), "stride": (20, 24)}])
def test_features_meet_the_labels_of_their_own_pixels(call, slide):
    if slide:
        Path("tiny.py").write_text(Path("tiny.py").read_text().replace("dict(mode='whole')", repr(slide)))
    status, err = call("fit_gmm", "tiny.py", "tiny.pth", "--out", "fitted", "--components", 1)
    assert status == 0
    assert "no pixel of tree" in err
    saved = torch.load("fitted/tiny_posthoc-gmm.pth", weights_only=True)
    means, counts = naive_class_means(slide)
    assert saved["meta"]["posthoc"]["pixels"] == counts.tolist()
    assert saved["meta"]["posthoc"]["unseen_classes"] == ["tree"]
    torch.testing.assert_close(saved["state_dict"]["densities.means"][:3, 0], means[:3], rtol=0, atol=1e-5)


def edit(path, *replacements):
    text = Path(path).read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    Path(path).write_text(text)


def nan_weights():
    checkpoint = torch.load("tiny.pth", weights_only=True)
    checkpoint["state_dict"]["decode_head.fusion_conv.conv.weight"][0] = torch.nan
    torch.save(checkpoint, "tiny.pth")


def other_classes():
    checkpoint = torch.load("tiny.pth", weights_only=True)
    torch.save({**checkpoint, "meta": {"CLASSES": ("sky", "road", "car", "tree")}}, "tiny.pth")


BAD = {
    "no config": (lambda: Path("tiny.py").unlink(), (), "config tiny.py does not exist"),
    "no checkpoint": (lambda: Path("tiny.pth").unlink(), (), "checkpoint tiny.pth does not exist"),
    "no training data": (lambda: edit("tiny.py", ("train_dataloader = val_dataloader", "")), (), "train_dataloader"),
    "no training images": (lambda: Path("closed").rename("gone"), (), "training data of"),
    "no model": (lambda: edit("tiny.py", ("model = dict(", "other = dict(")), (), "found None"),
    "other network": (lambda: edit("tiny.py", ("channels=16", "channels=24")), (), "belongs to another network"),
    "other classes": (other_classes, (), "was trained on the classes sky, road"),
    "fewer classes in the data": (
        lambda: edit("tiny.py", (", 'tree')", ")")),
        (),
        "with the 4 classes of the network, found 3",
    ),
    "undefined label": (
        lambda: set_trees.write(Path("closed/labels/1.png"), np.full((48, 64), 9, np.uint8)),
        (),
        "found also [9]",
    ),
    "no labels loaded": (
        lambda: edit("tiny.py", ("dict(type='LoadAnnotations'),", "")),
        (),
        "pipeline that loads labels, found none",
    ),
    "missing label": (lambda: Path("closed/labels/1.png").unlink(), (), "1.png"),
    "NaN features": (nan_weights, (), "found NaN or infinity"),
    "no images": (lambda: None, ("--images", 0), "--images"),
    "no pixels": (lambda: None, ("--pixels", 0), "--pixels"),
    "no components": (lambda: None, ("--components", 0), "--components"),
    "output is a file": (lambda: None, ("--out", "tiny.py"), "tiny.py"),
    "misspelt mode": (lambda: edit("tiny.py", ("mode='whole'", "mode='silde'")), (), "did you mean 'slide'"),
    "no windows": (lambda: None, ("--cfg-options", "model.test_cfg.mode=slide"), "model.test_cfg.crop_size"),
    "misspelt setting": (lambda: None, ("--cfg-options", "model.decode_head.chanels=3"), "did you mean channels"),
    "data root of no effect": (lambda: None, ("--data-root", "elsewhere"), "--data-root elsewhere"),
    "seed too large": (lambda: None, ("--seed", 2**64), "--seed"),
    "unnamed device": (lambda: None, ("--device", ""), "device ''"),
    "unknown device": (lambda: None, ("--device", "abacus"), "device 'abacus'"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_status_2_and_leaves_nothing(call, tmp_path, name):
    spoil, arguments, message = BAD[name]
    spoil()
    before = sorted(tmp_path.rglob("*"))
    out = () if "--out" in arguments else ("--out", "fitted")
    status, err = call("fit_gmm", "tiny.py", "tiny.pth", *out, *arguments)
    assert status == 2, err
    assert err.rstrip().splitlines()[-1].startswith("error: ")
    assert message in err.rstrip().splitlines()[-1]
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
@pytest.mark.parametrize(
    ("tool", "part", "words"),
    [
        ("fit_gmm", "train", ("--out", "made")),
        ("fit_scores", "train", ("--out", "made.npz")),
        ("test", "val", ("--work-dir", "made")),
        ("train", "train", ("--work-dir", "made")),
        ("train", "val", ("--work-dir", "made")),
        ("ood_eval", "val", ("--sets", "street_scenes", "--out", "made")),
    ],
)
def test_frames_of_another_suffix_are_not_passed_over(call, tool, part, words):
    path = next(Path("data/street_scenes/leftImg8bit", part).rglob("*_leftImg8bit.png"))
    path.rename(path.with_suffix(".jpg"))
    status, err = call(tool, "net.py", *(() if tool == "train" else ("net.pth",)), *words)
    assert status == 2
    assert not Path("made").exists()
    assert "expected images that end in _leftImg8bit.png and label maps" in err
    assert f"found {path.with_suffix('.jpg')} with a label map (1 such frames beside" in err
