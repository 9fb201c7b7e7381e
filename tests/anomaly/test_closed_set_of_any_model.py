"""Closed-set mIoU of models that are no config: against scikit-learn, by name, and refused for other classes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

import anomaly
from anomaly.datasets.camvid_ood import CLASSES
from anomaly.errors import InputError
from anomaly.evaluation.closed_set import measure_closed_set
from tests.commands import status_of
from tests.stored_maps import FOLDERS, write_dataset

AS_IT_IS = {"mean": (0, 0, 0), "std": (1, 1, 1), "device": "cpu"}


def by_colour(images):
    """Logits of eleven classes from the colours, at half the resolution."""
    small = torch.nn.functional.avg_pool2d(images, 2)
    weights = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    return torch.einsum("kc,bchw->bkhw", weights, small - 0.5)


@pytest.fixture
def root(tmp_path):
    """Two validation frames in CamVid's layout, and an anomaly dataset."""
    random = np.random.default_rng(0)
    write_dataset(tmp_path)
    for name in ("images", "annotations"):
        (tmp_path / "data/camvid" / name / "val").mkdir(parents=True)
    for number in range(2):
        label = random.integers(0, 12, (6, 9)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        label[label == 4] = 3  # a class without a labelled pixel
        image = random.integers(0, 255, (6, 9, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(image).save(tmp_path / f"data/camvid/images/val/{number}.png")
        Image.fromarray(label).save(tmp_path / f"data/camvid/annotations/val/{number}.png")
    return tmp_path


def test_equals_scikit_learn(root):
    data = anomaly.load_dataset("camvid-val", root / "data", as_found=True)
    model = anomaly.TorchModel(by_colour, classes=CLASSES)
    found = measure_closed_set(model, data)
    truth, predicted = [], []
    for frame in data:
        maps = by_colour(torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255)
        maps = torch.nn.functional.interpolate(maps, frame.label.shape, mode="bilinear", align_corners=False)
        known = frame.label == 0
        truth.append(frame.class_label[known])
        predicted.append(maps[0].argmax(0).numpy()[known])
    truth, predicted = np.concatenate(truth), np.concatenate(predicted)
    scored = [k for k in range(11) if (truth == k).any() or (predicted == k).any()]
    expected = np.full(11, np.nan)
    expected[scored] = jaccard_score(truth, predicted, labels=scored, average=None)
    np.testing.assert_allclose(list(found.class_iou.values()), expected, atol=1e-12)
    assert found.miou == pytest.approx(np.nanmean(expected))
    table = confusion_matrix(truth, predicted, labels=range(11))
    with np.errstate(invalid="ignore"):
        assert found.macc == pytest.approx(np.nanmean(np.diag(table) / table.sum(1)))
    assert found.aacc == pytest.approx((truth == predicted).mean())
    assert found.unlabelled == [CLASSES[4]]
    assert found.frames == 2


def test_named_on_the_command_line_and_measured_again(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    (root / "net.py").write_text(
        "import anomaly\nfrom tests.anomaly.test_closed_set_of_any_model import CLASSES, by_colour\n"
        "model = anomaly.TorchModel(by_colour, classes=CLASSES)\n"
    )
    words = ("--model", "net.py:model", *FOLDERS, "--closed-set", "camvid-val")
    assert status_of("anomaly", "evaluate", *words, "--out", "out") == 2
    assert "expected 101 frames, found 2" in capsys.readouterr().err
    data = anomaly.from_folders("images", "labels", {0: "known", 1: "anomaly", 255: "ignore"})
    closed = anomaly.load_dataset("camvid-val", as_found=True)
    model = anomaly.load_model("net.py:model")
    result = anomaly.evaluate(model, data, closed_set=closed)
    assert result.closed_set.dataset == "camvid-val"
    assert json.loads(result.save("out").read_text())["closed_set"]["class_iou"].keys() == set(CLASSES)
    assert anomaly.verify(result, model, data)


def test_other_classes_are_told_by_name_and_the_rest_is_measured(root):
    data = anomaly.from_folders(root / "images", root / "labels", {0: "known", 1: "anomaly", 255: "ignore"})
    closed = anomaly.load_dataset("camvid-val", root / "data", as_found=True)
    model = anomaly.TorchModel(by_colour, classes=[*CLASSES[:-1], "unicorn"])
    with pytest.warns(UserWarning, match="found 'unicorn', class 10, in place of 'bicyclist'"):
        result = anomaly.evaluate(model, data, closed_set=closed)
    assert result.closed_set is None
    assert "msp" in result.datasets[0].scores


def test_a_closed_set_that_is_none_is_told(root):
    data = anomaly.from_folders(root / "images", root / "labels", {0: "known", 1: "anomaly", 255: "ignore"})
    model = anomaly.TorchModel(by_colour, classes=CLASSES)
    with pytest.raises(InputError, match="closed_set=True: expected a config of mmsegmentation"):
        anomaly.evaluate(model, data, closed_set=True)
    with pytest.warns(UserWarning, match="expected a dataset that labels classes by their index"):
        assert anomaly.evaluate(model, data, closed_set=data).closed_set is None
