"""Any module or function of torch as a model."""

import functools
import warnings
import weakref
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import anomaly
from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.errors import InputError
from anomaly.evaluation.evaluator import evaluate
from anomaly.metrics.pixel import PixelMetrics
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel, weights_hash
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


class TwoAnswers(nn.Module):
    """Gives logits of three classes and an auxiliary map, in the form that a test asks for."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        logits = self.layer(images)
        return self.form(logits, logits[:, :1])


@pytest.mark.parametrize(
    ("form", "output"),
    [
        (lambda logits, other: {"out": logits, "aux": other}, "out"),
        (lambda logits, other: (other, logits), 1),
        (lambda logits, other: [logits, other], 0),
        (lambda logits, other: {"logits": logits, "loss": None}, None),  # as networks of transformers give it
        (lambda logits, other: OrderedDict(logits=logits, aux=other), "logits"),
        (lambda logits, other: logits, None),
    ],
    ids=["a dict", "a tuple", "a list", "a dict with logits and more", "logits by name", "a tensor"],
)
def test_logits_are_found_in_what_networks_give(form, output):
    network, inputs = TwoAnswers(form), torch.rand(2, 3, 4, 5)
    found = TorchModel(network, output=output, device="cpu", **AS_IT_IS)(inputs)
    torch.testing.assert_close(found.logits, network.layer(inputs).detach())
    assert found.features is None


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        (lambda logits, other: {"out": logits}, "logits", "output='logits': .* found a dict with out; name one"),
        (lambda logits, other: {"main": logits}, None, "expected logits, found a dict with main; name the logits with"),
        (lambda logits, other: (logits, other), 2, "output=2: .* found a tuple of 2"),
        (lambda logits, other: (logits, other), "out", "output='out': .* found a tuple of 2"),
        (lambda logits, other: (logits, other), None, "found a tuple of 2; name the logits with output="),
        (lambda logits, other: {"out": other}, "out", r"at least two classes, .*\(2, 1, 4, 5\).*softmax of one class"),
        (lambda logits, other: {"out": None}, "out", "expected a tensor as logits, found NoneType"),
        (lambda logits, other: {}, None, "found an empty dict"),
    ],
)
def test_where_there_are_no_logits_is_told(form, output, message):
    model = TorchModel(TwoAnswers(form), output=output, device="cpu", **AS_IT_IS)
    with pytest.raises(InputError, match=message):
        model(torch.rand(2, 3, 4, 5))


def test_output_and_gives_say_the_same_thing():
    with pytest.raises(InputError, match="output: expected it without gives"):
        TorchModel(brightness, output="out", gives=("logits", "features"))


def test_size_is_that_of_the_inputs_and_maps_come_back_at_the_images():
    shapes = []

    def network(images):
        shapes.append(tuple(images.shape))
        return brightness(images)

    model = TorchModel(network, size=(8, 12))
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    found = anomaly.score(model, image, "max_logit")
    assert set(shapes) == {(1, 3, 8, 12)}
    assert (found.shape, found.dtype) == ((20, 30), np.float32)
    scaled = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    expected = F.interpolate(scaled, (8, 12), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(model.prepare(image), expected)
    small = np.zeros((8, 12, 3), np.uint8)
    assert model.prepare(small).shape == (3, 8, 12)


@pytest.mark.parametrize("size", [8, (8,), (8, 0), (8, 8.5), "8x8", (8, 8, 8)])
def test_other_sizes_are_refused(size):
    with pytest.raises(InputError, match="size: expected"):
        TorchModel(brightness, size=size)


def test_a_module_without_normalisation_is_told_of():
    network = nn.Conv2d(3, 2, 1)
    with pytest.warns(UserWarning, match=r"Conv2d: no normalisation given.* mean= and std="):
        plain = TorchModel(network, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = TorchModel(network, device="cpu", **AS_IT_IS)
        TorchModel(brightness)  # a function may normalise by itself
    with pytest.warns(UserWarning, match="Conv2d: mean= is given without std="):
        TorchModel(network, device="cpu", mean=(0.5, 0.5, 0.5))
    image = np.full((2, 2, 3), 51, np.uint8)
    assert plain.prepare(image).unique().tolist() == told.prepare(image).unique().tolist() == [pytest.approx(0.2)]


class Moved(nn.Conv2d):
    """Remembers where it was moved to."""

    def to(self, *places):
        self.places = places
        return super().to(*places)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_a_module_is_moved_to_the_device(device):
    network = Moved(3, 2, 1)
    model = TorchModel(network, device=device, **AS_IT_IS)
    (place,) = network.places
    assert place.type == ("cpu" if device is not None or not torch.cuda.is_available() else "cuda")
    assert model(torch.rand(1, 3, 4, 4)).logits.device.type == place.type


@pytest.mark.parametrize("function", [nn.Conv2d(3, 2, 1), brightness])
@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused(function, name):
    with pytest.raises(InputError, match=f"device '{name}': expected one that torch has here"):
        TorchModel(function, device=name, **AS_IT_IS)


def test_what_is_recorded_of_a_model():
    settings = {"mean": (0.5, 0.4, 0.3), "std": (1, 1, 2), "size": (8, 12), "output": "out", "device": "cpu"}
    network = TwoAnswers(None)
    record = TorchModel(network, **settings).record
    weights = record.pop("weights")
    assert record == {
        "name": "TwoAnswers",
        "type": "TwoAnswers",
        "output": "out",
        "size": [8, 12],
        "mean": [0.5, 0.4, 0.3],
        "std": [1.0, 1.0, 2.0],
    }
    assert TorchModel(network, **settings).record["weights"] == weights
    with torch.no_grad():
        network.layer.bias.add_(1)
    assert TorchModel(network, **settings).record["weights"] != weights
    assert TorchModel(brightness).record["name"] == "brightness"


def test_what_does_not_fit_is_told():
    inputs = torch.rand(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"found shape \(2, 3, 4\)"):
        TorchModel(lambda images: images[:, :, 0])(inputs)
    with pytest.raises(InputError, match=r"found shape \(2, 1, 4, 4\)"):
        TorchModel(lambda images: images[:, :1])(inputs)
    with pytest.raises(InputError, match="expected features, logits, found a dict with logits"):
        TorchModel(lambda images: {"logits": images}, gives=("logits", "features"))(inputs)
    fields = ("logits", "outlier_log_likelihood")
    with pytest.raises(InputError, match=r"expected outlier_log_likelihood .* found shape \(2, 1, 4, 4\)"):
        TorchModel(lambda images: dict(zip(fields, (images, images[:, :1]), strict=True)), gives=fields)(inputs)
    with pytest.raises(InputError, match=r"gives: expected logits, .* found \['depth'\]"):
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
    with pytest.raises(InputError, match="changed buffers, such as running statistics"):
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
        {"std": (1, 1e-50, 1)},
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


def test_a_normalisation_of_images_from_0_to_255_is_refused():
    with pytest.raises(InputError, match=r"mean: expected values for images scaled to 0\.\.1, found \(123\.675"):
        TorchModel(lambda images: images, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def test_other_numbers_of_classes_are_refused():
    model = TorchModel(lambda images: images.permute(0, 2, 3, 1))  # (B, h, w, C): the height as classes
    model(torch.rand(1, 3, 4, 5))
    with pytest.raises(InputError, match=r"same classes for every input, found 4 and then 6; .*\(B, C, h, w\)"):
        model(torch.rand(1, 3, 6, 5))


def test_values_that_are_no_logits_are_told():
    with pytest.warns(UserWarning, match=r"the logits of every pixel sum to 1"):
        TorchModel(lambda images: images.softmax(1))(torch.rand(1, 3, 4, 5))
    with pytest.raises(InputError, match=r"expected logits of a float type, found torch.int64"):
        TorchModel(lambda images: images.long())(torch.rand(1, 3, 4, 5))
    masks = TorchModel(
        lambda images: {"query_class_prob": torch.full((1, 3, 3), 1 / 3), "mask_logits": images.sigmoid()},
        gives=("query_class_prob", "mask_logits"),
    )
    with pytest.warns(UserWarning, match="the masks are between 0 and 1"):
        masks(torch.rand(1, 3, 4, 5))


def failing(images):
    raise KeyError("oops")


def test_errors_of_the_users_code_are_one_sentence():
    with pytest.raises(InputError, match=r"failing on inputs of shape \(1, 3, 4, 5\) failed with KeyError: 'oops'"):
        TorchModel(failing)(torch.rand(1, 3, 4, 5))
    with pytest.raises(InputError, match=r"failing on an image of shape \(4, 5, 3\) failed with KeyError"):
        anomaly.score(failing, np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match=r"nothing: expected a score map of type .*, found NoneType"):
        anomaly.score(anomaly.ScoreModel(lambda image: None, name="nothing"), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match=r"image: expected \(H, W, 3\) of uint8, found \(0, 5, 3\)"):
        TorchModel(brightness).prepare(np.zeros((0, 5, 3), np.uint8))


def test_settings_that_a_score_function_does_not_follow_are_refused():
    def dark(image):
        return -image.mean(2)

    image = np.zeros((4, 5, 3), np.uint8)
    for setting in ({"precision": "bfloat16"}, {"resolution": "input"}):
        with pytest.raises(InputError, match=r"expected the default for a score function"):
            anomaly.score(dark, image, inference=anomaly.Inference(**setting))
    with pytest.raises(InputError, match=r"inference: expected an anomaly.Inference, found dict"):
        anomaly.score(dark, image, inference={"flip": True})


def test_network_is_named_by_its_tensors():
    state = {"a": torch.zeros(2, 3), "b": torch.ones((), dtype=torch.long)}
    name = weights_hash(state)
    assert weights_hash(dict(reversed(state.items()))) == name
    assert weights_hash({**state, "head.em.memory.sums": torch.ones(3)}) == name
    assert weights_hash({**state, "a": torch.zeros(3, 2)}) != name
    assert weights_hash({**state, "b": torch.zeros((), dtype=torch.long)}) != name
