"""Mask classifiers: their scores against loops in float64, and any module that gives masks as a model."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import anomaly
from anomaly.errors import InputError
from anomaly.evaluation.score_maps import predicted_classes, top_classes
from anomaly.models import masks as weighted
from anomaly.models.base import Prediction
from anomaly.models.views import predict_image
from anomaly.scores.registry import SCORES
from tests.stored_maps import write_dataset

NAMES = ("rba", "eam", "max_class_sum", "mask_entropy", "no_object")
AS_IT_IS = {"mean": (0, 0, 0), "std": (1, 1, 1)}
Q, C = 6, 4


class Masks(nn.Module):
    """Queries that look for a colour each."""

    def __init__(self, queries=Q, outputs=C + 1):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.look, self.classes = nn.Conv2d(3, queries, 3, padding=1), nn.Parameter(torch.randn(queries, outputs))

    def forward(self, images):
        prob = self.classes.softmax(1).expand(len(images), -1, -1)
        return {"query_class_prob": prob, "mask_logits": 5 * self.look(images)}


def model_of(module, **more):
    return anomaly.TorchModel(module, gives=("query_class_prob", "mask_logits"), device="cpu", **AS_IT_IS, **more)


def prediction(scale=3.0, batch=2, size=(5, 7)):
    draw = torch.Generator().manual_seed(0)
    prob = torch.randn(batch, Q, C + 1, generator=draw).softmax(2)
    return Prediction(mask_logits=scale * torch.randn(batch, Q, *size, generator=draw), query_class_prob=prob)


def in_a_loop(name, prob, masks):
    """One pixel at a time, in Python's floats. Shapes: ``(Q, C + 1)``, ``(Q, h, w)``."""
    found = np.empty(masks.shape[1:])
    for row in range(masks.shape[1]):
        for column in range(masks.shape[2]):
            cover = [1 / (1 + math.exp(-float(masks[q, row, column]))) for q in range(len(masks))]
            sums = [sum(float(prob[q, c]) * cover[q] for q in range(len(cover))) for c in range(prob.shape[1] - 1)]
            if name == "rba":
                value = -sum(math.tanh(each) for each in sums)
            elif name == "eam":
                value = 1 - sum(max(map(float, prob[q, :-1])) * cover[q] for q in range(len(cover)))
            elif name == "max_class_sum":
                value = -max(sums)
            elif name == "mask_entropy":
                value = -sum(each / sum(sums) * math.log(each / sum(sums)) for each in sums)
            else:
                value = sum(float(prob[q, -1]) * cover[q] for q in range(len(cover)))
            found[row, column] = value
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_equals_a_loop_in_float64(name, scale):
    given = prediction(scale)
    found = SCORES[name](given)
    assert found.dtype == torch.float32
    for b in range(2):
        expected = in_a_loop(name, given.query_class_prob[b].numpy(), given.mask_logits[b].numpy())
        np.testing.assert_allclose(found[b], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_pixels_change_nothing(name, monkeypatch):
    whole = SCORES[name](prediction(size=(9, 13)))
    monkeypatch.setattr(weighted, "_CHUNK", 10)
    assert torch.equal(SCORES[name](prediction(size=(9, 13))), whole)


@pytest.mark.parametrize("name", NAMES)
def test_masks_that_cover_nothing_are_finite_and_the_most_anomalous(name):
    given = prediction()
    given.mask_logits[:, :, 0, 0] = float("-inf")
    given.mask_logits[:, :, 0, 1] = -1e4
    found = SCORES[name](given)[:, 0, :2]
    assert found.isfinite().all()
    expected = {"rba": 0, "eam": 1, "max_class_sum": 0, "mask_entropy": math.log(C), "no_object": 0}[name]
    assert torch.allclose(found, torch.full_like(found, expected), atol=1e-6)
    if name != "no_object":
        assert (SCORES[name](given) <= expected + 1e-6).all()


def test_predicted_class_is_that_of_the_largest_sum():
    model = model_of(Masks(), classes=tuple("abcd"))
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    found = predict_image(model, image)
    given = model(model.prepare(image)[None])
    cover, known = given.mask_logits[0].sigmoid(), given.query_class_prob[0, :, :-1]
    sums = torch.einsum("qc,qhw->chw", known, cover)
    assert np.array_equal(predicted_classes(found, (20, 30)), sums.argmax(0).numpy())
    top = top_classes(found, (20, 30), np.array([3, 4]), np.array([0, 9]))
    assert top.kind == "mask_sum"
    np.testing.assert_allclose(top.values[0], sums.amax(0)[3:5][:, [0, 9]], atol=1e-6)


def test_a_module_that_gives_masks_is_evaluated_with_its_scores(tmp_path):
    write_dataset(tmp_path)
    data = anomaly.from_folders(tmp_path / "images", tmp_path / "labels", {0: "known", 1: "anomaly", 255: "ignore"})
    result = anomaly.evaluate(model_of(Masks(), classes=tuple("abcd")), data, scores="all")
    assert set(result.datasets[0].scores) == set(NAMES)
    at_input = anomaly.evaluate(model_of(Masks()), data, "rba", inference=anomaly.Inference(resolution="input"))
    assert at_input.datasets[0].scores["rba"].values["auroc"] == result.datasets[0].scores["rba"].values["auroc"]
    result.report(tmp_path / "report.html")


@pytest.mark.parametrize("name", ["msp", "max_logit", "energy"])
def test_scores_of_pixels_are_refused_with_the_reason(name):
    image = np.zeros((8, 8, 3), np.uint8)
    message = r"a mask classifier has class probabilities of masks, not of pixels.* the scores that work .* rba, eam"
    with pytest.raises(InputError, match=message):
        anomaly.score(model_of(Masks()), image, name)
    with pytest.raises(InputError, match="`anomaly fit` fits densities to any network that has none"):
        anomaly.score(model_of(Masks()), image, "gmm_nll")
    plain = anomaly.TorchModel(nn.Conv2d(3, 2, 1), device="cpu", **AS_IT_IS)
    with pytest.raises(InputError, match="only mask classifiers, such as Mask2Former, give them"):
        anomaly.score(plain, image, "rba")


class Returns(nn.Module):
    def __init__(self, prob, masks):
        super().__init__()
        self.found = {"query_class_prob": prob, "mask_logits": masks}

    def forward(self, images):
        return self.found


@pytest.mark.parametrize(
    ("prob", "masks", "message"),
    [
        (
            torch.randn(1, 5, 3),
            torch.zeros(1, 5, 4, 4),
            "probabilities that sum to 1 for each query",
        ),
        (torch.full((1, 5, 3), 1 / 3), torch.zeros(1, 4, 4, 4), r"found shapes \(1, 5, 3\) and \(1, 4, 4, 4\)"),
        (torch.full((1, 1, 3), 1 / 3), torch.zeros(1, 1, 4, 4), "at least two queries, found one"),
        (
            torch.full((1, 5, 2), 1 / 2),
            torch.zeros(1, 5, 4, 4),
            "2 classes and of no object, which comes last",
        ),
        (torch.full((1, 3), 1 / 3), torch.zeros(1, 5, 4, 4), r"expected class probabilities \(B, Q, C \+ 1\)"),
    ],
)
def test_what_is_no_mask_classifier_is_told(prob, masks, message):
    model = model_of(Returns(prob, masks), classes=("road", "sky"))
    with pytest.raises(InputError, match=message) as error:
        model(torch.zeros(1, 3, 4, 4))
    assert "\n" not in str(error.value)


def test_gives_names_both_fields_of_a_mask_classifier():
    with pytest.raises(InputError, match="expected logits, or query_class_prob and mask_logits"):
        anomaly.TorchModel(Masks(), gives=("mask_logits",), **AS_IT_IS)


def test_dicts_of_torchvision_need_no_words():
    class Network(nn.Module):
        def forward(self, images):
            return {"out": images, "aux": images[:, :1]}

    model = anomaly.TorchModel(Network(), device="cpu", **AS_IT_IS)
    inputs = torch.rand(2, 3, 4, 5)
    assert torch.equal(model(inputs).logits, inputs)
