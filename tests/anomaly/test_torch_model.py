"""Any module or function of torch as a model."""

import functools
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.errors import InputError
from anomaly.evaluation.evaluator import evaluate
from anomaly.metrics.pixel import PixelMetrics
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel
from anomaly.models.views import predict_inputs
from anomaly.scores import get_scores

AS_IT_IS = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def brightness(images):
    """Two classes: as bright as it is, and nothing; at half the resolution."""
    logit = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 2)
    return torch.cat([logit, torch.zeros_like(logit)], dim=1)


def test_image_is_scaled_and_normalised():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    model = TorchModel(brightness, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    expected = (image / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    assert np.allclose(model.prepare(image).permute(1, 2, 0), expected, atol=1e-6)
    assert model.prepare(image[:, ::-1]).dtype == torch.float32  # views are fine


def test_evaluated_as_a_loop_over_frames_measures_it(tmp_path: Path):
    write_street_scenes(tmp_path / "street_scenes", train=0, val=0, open_world=4, size=(48, 64))
    dataset, metrics = load_dataset("street_scenes", tmp_path), PixelMetrics()
    model = TorchModel(brightness, classes=("bright", "dark"))
    (found,) = evaluate(model, [dataset], get_scores(["max_logit"]), inference=Inference(resolution="input"))
    for frame in dataset:
        logits = brightness(torch.from_numpy(frame.image).permute(2, 0, 1)[None] / 255)
        logits = torch.nn.functional.interpolate(logits, frame.label.shape, mode="bilinear")
        metrics.update(frame.id, -logits.amax(1)[0].numpy(), frame.label)
    expected = metrics.compute()
    for name in ("auroc", "ap", "fpr95"):
        assert found.scores["max_logit"].values[name] == pytest.approx(expected[name], abs=1e-6)


def test_more_than_logits_serves_scores_that_need_it():
    def likelihoods(images):
        return {"logits": images, "class_log_likelihood": -images}

    model = TorchModel(likelihoods, gives=("logits", "class_log_likelihood"))
    inputs = torch.rand(1, 3, 4, 4)
    assert torch.equal(get_scores(["gmm_nll"])[0](model(inputs)), inputs.amin(1))


def test_what_does_not_fit_is_told():
    inputs = torch.rand(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"found shape \(2, 3, 4\)"):
        TorchModel(lambda images: images[:, :, 0])(inputs)
    with pytest.raises(InputError, match=r"found shape \(2, 1, 4, 4\)"):
        TorchModel(lambda images: images[:, :1])(inputs)
    with pytest.raises(InputError, match="expected features, logits, found a dict with logits"):
        TorchModel(lambda images: {"logits": images}, gives=("logits", "features"))(inputs)
    with pytest.raises(InputError, match=r"gives: expected logits .* found \['depth'\]"):
        TorchModel(brightness, gives=("logits", "depth"))
    with pytest.raises(InputError, match=r"found \['features'\]"):
        TorchModel(brightness, gives=("features",))


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(InputError, match="classes of different names, found 'road' 2 times"):
        TorchModel(lambda images: images, classes=("road", "sky", "road"))


def norm(training=True):
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train(training)


@pytest.mark.parametrize("hide", ["cached", "weak", "traced"])
def test_a_network_that_changes_its_state_is_refused_and_put_back(hide):
    """These are not found, or their flag does nothing: the state tells."""
    network = norm()
    get = functools.lru_cache(lambda: network)
    reference = weakref.ref(network)
    asked = {"cached": lambda x: get()(x), "weak": _Weak(reference)}.get(hide)
    if hide == "traced":
        network = asked = torch.jit.trace(network, torch.rand(1, 3, 4, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = TorchModel(asked, **AS_IT_IS)
    with pytest.raises(InputError, match="buffers changed, such as running statistics"):
        model(torch.rand(1, 3, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class _Weak:
    def __init__(self, reference):
        self._reference = reference

    def __call__(self, inputs):
        return self._reference()(inputs)


def test_a_network_can_be_trained_after_it_was_evaluated():
    network = nn.Sequential(nn.LazyConv2d(3, 1))
    model = TorchModel(network, **AS_IT_IS)
    predict_inputs(model, torch.rand(1, 3, 4, 4))
    network(torch.rand(1, 3, 4, 4)).sum().backward()
    assert network[0].weight.grad is not None


def test_a_random_network_is_told_of_whatever_is_added_to_its_logits():
    model = TorchModel(lambda images: F.dropout(torch.cat([images, -images], 1)) - 1e4)
    with pytest.warns(UserWarning, match="is random"):
        model(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(
    "settings",
    [
        {"std": (1, 0, 1)},
        {"std": (1, -1, 1)},
        {"std": (1, torch.nan, 1)},
        {"mean": 0.5},
        {"mean": (0.5, 0.5)},
        {"mean": ("a", "b", "c")},
        {"function": None},
    ],
)
def test_what_cannot_be_meant_is_refused(settings):
    with pytest.raises(InputError, match="expected"):
        TorchModel(**{"function": lambda images: images, **settings})


@pytest.mark.parametrize(
    "function",
    [
        lambda images: images.numpy(),
        lambda images: None,
        lambda images: [images],
        lambda images: torch.cat([images, images]),
        lambda images: torch.cat([images, images], 1),
    ],
)
def test_what_is_no_prediction_of_the_images_is_refused(function):
    with pytest.raises(InputError, match="model: expected"):
        TorchModel(function, classes=("a", "b", "c"))(torch.rand(2, 3, 4, 4))


def test_numbers_of_any_precision_normalise_in_float32():
    numbers = {"mean": np.array([0.5] * 3), "std": [np.float64(2)] * 3}
    model = TorchModel(lambda images: images, **numbers, classes=["a", "b", "c"])
    prepared = model.prepare(np.full((2, 2, 3), 255, np.uint8))
    assert (prepared.dtype, prepared.unique().tolist(), model.classes) == (torch.float32, [0.25], ("a", "b", "c"))
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) of uint8"):
        model.prepare(np.zeros((2, 2, 3), np.float32))
