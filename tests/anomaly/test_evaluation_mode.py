"""Networks that come in training mode: asked as in evaluation mode, left as they came."""

import copy
import functools
import sys
import types
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import nn

from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.errors import InputError
from anomaly.evaluation.evaluator import evaluate
from anomaly.mmengine.closed_set import evaluate_closed_set, open_closed_set
from anomaly.models.evaluation_mode import evaluation_mode, modules_of
from anomaly.models.mmseg import MMSegModel, build_model
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel
from anomaly.scores import get_scores
from tests.anomaly import set_trees, tiny_segmentor

AS_IT_IS = {"mean": (0, 0, 0), "std": (1, 1, 1)}  # images from 0 to 1, and nothing said of it


class Net(nn.Module):
    """Dropout and batch normalisation, one of them within, and dropout as a function of its own flag."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.ReLU())
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, images):
        return self.last(F.dropout(self.body(images), 0.3, self.training))


def trained() -> Net:
    """In training mode but for one submodule, with statistics of some images."""
    torch.manual_seed(0)
    net = Net().train()
    for _ in range(3):
        net(torch.rand(2, 3, 8, 8))
    net.last.eval()
    return net


GLOBAL = trained()
SPACE = types.ModuleType("a_module_of_mine")
SPACE.net = GLOBAL


def helper(images):
    return GLOBAL(images)


class Holder:
    def __init__(self, net):
        self.nets = {"best": [net]}

    def __call__(self, images):
        return self.nets["best"][0](images)

    def method(self, images):
        return self(images)


class Slotted:
    __slots__ = ("net", "other")

    def __init__(self, net):
        self.net = net

    def __call__(self, images):
        return self.net(images)


class ByGlobal:
    def __call__(self, images):
        return self.inner(images)

    def inner(self, images):
        return helper(images)


class Hiding(nn.Module):
    """Keeps its network where torch does not look."""

    def __init__(self, net):
        super().__init__()
        self.nets = [net]

    def forward(self, images):
        return self.nets[0](images)


def default(images, net=GLOBAL):
    return net(images)


def passed_on(images, net):
    return net(images)


def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


def nested(net):
    def outer(images):
        def inner():
            return SPACE.net(images) if net is None else net(images)

        return inner()

    return outer


WAYS: dict[str, Callable[[Net], Callable]] = {
    "the module": lambda net: net,
    "its forward": lambda net: net.forward,
    "its call": lambda net: net.__call__,
    "partial of the module": lambda net: functools.partial(net),
    "partial with the module": lambda net: functools.partial(passed_on, net=net),
    "partial of partials": lambda net: functools.partial(functools.partial(passed_on, net=net)),
    "closure": lambda net: lambda images: net(images),
    "closure of its forward": lambda net: (lambda forward: lambda images: forward(images))(net.forward),
    "global": lambda net: lambda images: GLOBAL(images),
    "forward of a global": lambda net: lambda images: GLOBAL.forward(images),
    "global of a global function": lambda net: lambda images: helper(images),
    "global in a comprehension": lambda net: lambda images: torch.stack([GLOBAL(images) for _ in range(1)])[0],
    "global in a module": lambda net: lambda images: SPACE.net(images),
    "in functions within functions": lambda net: nested(net),
    "global in functions within functions": lambda net: nested(None),
    "default argument": lambda net: default,
    "object": Holder,
    "method of an object": lambda net: Holder(net).method,
    "object with slots": Slotted,
    "object whose methods name a global": lambda net: ByGlobal(),
    "namespace": lambda net: (lambda space: lambda images: space.net(images))(SimpleNamespace(net=net)),
    "attribute of a function": lambda net: with_attribute(net),
    "wrapped": lambda net: decorated(net.forward),
    "no_grad": lambda net: torch.no_grad()(net.forward),
    "hidden in a module": Hiding,
    "half precision": lambda net: torch.autocast("cpu", torch.bfloat16)(net.forward),
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "compiled function": lambda net: torch.compile(lambda images: net(images), backend="eager"),
    "parallel": lambda net: nn.DataParallel(net),
}


def with_attribute(net):
    def function(images):
        return function.net(images)

    function.net = net
    return function


def state_of(net):
    return copy.deepcopy(net.state_dict()), {name: module.training for name, module in net.named_modules()}


def unchanged(net, state):
    tensors, flags = state
    assert all(torch.equal(value, tensors[name]) for name, value in net.state_dict().items())
    assert {name: module.training for name, module in net.named_modules()} == flags


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_asked_in_evaluation_mode_and_left_as_it_was(way):
    GLOBAL.load_state_dict(trained().state_dict())
    net = GLOBAL
    state, inputs = state_of(net), torch.rand(1, 3, 8, 8)
    function = WAYS[way](net)
    expected = copy.deepcopy(net).eval()(inputs)
    model = TorchModel(function, **AS_IT_IS)
    generator = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [model(inputs).logits for _ in range(3)]
    assert not [each for each in told if "receives the same image twice" in str(each.message)]
    for logits in found:
        torch.testing.assert_close(logits, expected, rtol=0.02, atol=0.02 if way == "half precision" else 1e-6)
    unchanged(net, state)
    assert torch.equal(torch.get_rng_state(), generator)


def test_mode_that_changes_between_calls_is_noticed():
    net = trained().eval()
    inputs, model = torch.rand(1, 3, 8, 8), TorchModel(net, **AS_IT_IS)
    expected = model(inputs).logits
    net.train()
    assert torch.equal(model(inputs).logits, expected)
    assert all(module.training for module in net.modules())


def test_global_that_is_bound_anew_is_noticed(monkeypatch):
    model = TorchModel(helper, **AS_IT_IS)
    model(torch.rand(1, 3, 8, 8))
    other = trained()
    monkeypatch.setattr(sys.modules[__name__], "GLOBAL", other)
    state = state_of(other)
    model(torch.rand(1, 3, 8, 8))
    unchanged(other, state)


def test_left_as_it_was_after_an_error():
    net = trained()
    state = state_of(net)

    def function(images):
        net(images).train_no_such_method()

    with pytest.raises(InputError, match="failed with AttributeError"):
        TorchModel(function, **AS_IT_IS)(torch.rand(1, 3, 8, 8))
    unchanged(net, state)


def test_networks_without_data_elsewhere_do_not_matter():
    with torch.device("meta"):  # as libraries hold them while they load weights
        elsewhere = torch.nn.BatchNorm2d(3)
    assert elsewhere.training
    TorchModel(trained(), **AS_IT_IS)(torch.rand(1, 3, 8, 8))


def test_what_the_network_does_to_its_flags_meanwhile_does_not_stay():
    net = trained()
    state = state_of(net)
    with evaluation_mode(net):
        assert not any(module.training for module in net.modules())
        net.body.train()
    unchanged(net, state)


def test_train_and_eval_are_not_called():
    class Merging(Net):
        def train(self, mode=True):
            raise RuntimeError("merges its weights, as adapters do")

    net = Merging()
    net.training = True
    with evaluation_mode(net):
        assert not net.training
    assert net.training


def test_scripted_modules():
    net = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)))
    inputs = torch.rand(1, 3, 4, 4)
    model, state = TorchModel(net, **AS_IT_IS), state_of(net)
    assert torch.equal(model(inputs).logits, model(inputs).logits)
    unchanged(net, state)
    frozen = torch.jit.freeze(net.eval())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchModel(frozen, **AS_IT_IS)(inputs)


def test_functions_of_libraries_are_not_searched():
    assert modules_of(lambda images: np.linalg.norm(F.softmax(images, 1)), torch.softmax, load_dataset) == []


class Unbound:
    """As a proxy that stands for nothing yet: whatever is asked of it fails."""

    def __getattribute__(self, name):
        raise RuntimeError("not bound")


class Nameless:
    __module__ = None

    def __init__(self, net):
        self.net = net


def test_things_that_cannot_be_looked_into():
    net = trained()
    values = [Unbound(), Nameless(net), type("Odd", (), {"__slots__": "net"})()]
    assert set(modules_of(lambda images: values)) == set(net.modules())


@pytest.mark.parametrize("loop", [lambda a: a.append(a), lambda a: a.append({"again": a})])
def test_things_that_hold_themselves(loop):
    values = [net := trained()]
    loop(values)
    assert set(modules_of(values)) == set(net.modules())


def test_many_things_take_no_time():
    values = [[i] for i in range(10**5)]
    assert modules_of(lambda images: values) == []


def random_one(images):
    return F.dropout(images, 0.5)


class OfTheBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images):
        return self.norm(images)


TOLD = [(random_one, 1), (random_one, 3), (OfTheBatch().eval(), 3), (nn.BatchNorm2d(3, track_running_stats=False), 2)]


@pytest.mark.parametrize(("function", "batch"), TOLD)
def test_what_is_random_by_itself_is_told(function, batch):
    model, inputs = TorchModel(function, **AS_IT_IS), torch.rand(batch, 3, 8, 8)
    depends = "depends on the other images of its batch" if batch > 1 else "its output is random, although"
    with pytest.warns(UserWarning, match=rf"predicts different logits .*{depends}"):
        model(inputs)
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        model(inputs)
        model(inputs[:1])


def test_generators_are_left_as_one_call_leaves_them():
    inputs = torch.rand(1, 3, 8, 8)
    torch.manual_seed(3)
    expected = random_one(inputs), random_one(inputs)
    torch.manual_seed(3)
    model = TorchModel(random_one, **AS_IT_IS)
    with pytest.warns(UserWarning, match="receives the same image twice"):
        found = model(inputs).logits, model(inputs).logits
    assert all(map(torch.equal, found, expected))


QUIET = {
    "a network": trained(),
    "none": lambda images: torch.cat([images, -images], 1),
    "one that writes to its input": lambda images: images.sub_(0.5).mul_(2),
    "one of values that are not finite": lambda images: {
        "logits": images,
        "component_log_prob": torch.full((len(images), 2, 2, 4, 4), -torch.inf),
        "component_peak": torch.full((2, 2), -torch.inf),
    },
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", QUIET)
def test_what_answers_alike_is_not_told_of(name, batch):
    gives = ("logits", "component_log_prob", "component_peak") if "values" in name else ("logits",)
    model, inputs = TorchModel(QUIET[name], gives=gives, **AS_IT_IS), torch.rand(batch, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(inputs)
        model(inputs[:1])


def test_values_come_out_again(tmp_path):
    write_street_scenes(tmp_path / "street_scenes", train=0, val=0, open_world=4, size=(48, 64))
    dataset, net = load_dataset("street_scenes", tmp_path), trained()
    state = state_of(net)

    def values(function):
        (found,) = evaluate(
            TorchModel(function, **AS_IT_IS), [dataset], get_scores(["entropy"]), inference=Inference(batch=2)
        )
        return found.scores["entropy"].values

    assert values(net) == values(net) == values(copy.deepcopy(net).eval())
    unchanged(net, state)


@pytest.fixture
def segmentor(tmp_path):
    closed = tiny_segmentor.write_closed_set(tmp_path / "closed")
    config = Config.fromfile(tiny_segmentor.write_config(tmp_path / "tiny.py", closed))
    network = build_model(config)
    path = tiny_segmentor.write_checkpoint(tmp_path / "weights.pth", config)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    network.train()
    network.decode_head.conv_seg.eval()
    assert any(module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.Dropout2d))
    return config, network


def test_segmentor_in_training(segmentor):
    config, network = segmentor
    state = state_of(network)
    expected = MMSegModel(config, copy.deepcopy(network).eval(), "cpu")
    model = MMSegModel(config, network, "cpu")
    unchanged(network, state)
    inputs = model.prepare(set_trees.photo(3, 48, 64))[None]
    for _ in range(2):
        torch.testing.assert_close(model(inputs).logits, expected(inputs).logits)
        unchanged(network, state)
        network.train()  # a training that goes on between two evaluations
        network.decode_head.conv_seg.eval()


def test_closed_set_of_a_segmentor_in_training(segmentor):
    config, network = segmentor
    state, dataset = state_of(network), open_closed_set(config)
    found = evaluate_closed_set(config, network, dataset)
    again = evaluate_closed_set(config, copy.deepcopy(network).eval(), dataset)
    assert found.class_iou == pytest.approx(again.class_iou, nan_ok=True)
    unchanged(network, state)
