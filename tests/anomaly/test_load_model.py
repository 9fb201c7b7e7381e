"""A model from what people type: a config with its checkpoint, ``file.py:name``, a module or a function."""

import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from anomaly.errors import InputError
from anomaly.models.base import Model
from anomaly.models.functions import ScoreModel
from anomaly.models.loading import load_model
from anomaly.models.mmseg import MMSegModel
from anomaly.models.torch import TorchModel
from tests.anomaly import set_trees, tiny_segmentor
from tests.anomaly.test_evaluator import ColourModel

FILE = """
import torch
from torch import nn

import beside
from anomaly import ScoreModel, TorchModel


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return self.layer(images) * beside.FACTOR


class Scores:
    def __call__(self, image):
        return image.mean(2)


net = Net()
model = TorchModel(net, classes=("a", "b", "c", "d"), mean=(0.5, 0.5, 0.5), std=(1, 1, 1), device="cpu")
scores = Scores()
number = 3


def factory(width=4):
    return model


def factory_of_net():
    return net


def factory_of_factories():
    return factory


def failing():
    raise ValueError("no weights")


def refusing():
    return TorchModel(net, mean=(100, 100, 100), std=(1, 1, 1))


def brightness(image):
    return image.mean(2)


def brightness_of(image, channel=0):
    return image[..., channel]
"""
IMAGE = set_trees.photo(0, 6, 8)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")  # a file that it imports
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def config(tmp_path):
    return tiny_segmentor.write_config(tmp_path / "tiny.py", tmp_path / "closed")


@pytest.fixture
def checkpoint(tmp_path, config):
    return tiny_segmentor.write_checkpoint(tmp_path / "weights.pth", Config.fromfile(config))


@pytest.mark.slow
@pytest.mark.parametrize("given", ["two", "a pair", "a list", "texts"])
def test_a_config_with_its_checkpoint(config, checkpoint, given):
    model = {
        "two": lambda: load_model(config, checkpoint, device="cpu"),
        "a pair": lambda: load_model((config, checkpoint)),
        "a list": lambda: load_model([config, checkpoint]),
        "texts": lambda: load_model(str(config), str(checkpoint)),
    }[given]()
    assert isinstance(model, MMSegModel)
    assert model.classes == tiny_segmentor.CLASSES
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, value in model.network.state_dict().items():
        assert torch.equal(value.cpu(), weights[name])
    assert model.inputs["config"]["path"] == str(config)
    assert model.inputs["checkpoint"]["path"] == str(checkpoint)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model", TorchModel),
        ("factory", TorchModel),
        ("net", TorchModel),
        ("Net", TorchModel),
        ("factory_of_net", TorchModel),
        ("brightness", ScoreModel),
        ("brightness_of", ScoreModel),
        ("scores", ScoreModel),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no normalisation given")
def test_what_a_file_calls_a_name(file, name, kind):
    model = load_model(f"{file}:{name}", device="cpu" if kind is TorchModel else None)
    assert isinstance(model, kind)
    assert isinstance(model, Model)
    prediction = model(model.prepare(IMAGE)[None])
    found = prediction.logits if kind is TorchModel else prediction.score
    assert found.shape[-2:] == IMAGE.shape[:2]
    if name in ("net", "Net", "factory_of_net"):
        torch.manual_seed(0)
        expected = nn.Conv2d(3, 4, 1)(torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 255) * 2
        torch.testing.assert_close(found, expected.detach())
    if name == "brightness":
        np.testing.assert_allclose(found[0], IMAGE.mean(2), rtol=1e-6)
    inputs = model.inputs["model"]
    assert (inputs["path"], inputs["object"]) == (str(file), name)


def test_the_file_is_run_with_its_folder_among_those_of_imports_and_without_it_afterwards(file):
    before = list(sys.path)
    load_model(f"{file}:model")
    assert sys.path == before


def test_objects_of_python():
    network, model = nn.Conv2d(3, 4, 1), ColourModel()
    assert load_model(model) is model
    with pytest.warns(UserWarning, match="no normalisation given"):
        assert isinstance(load_model(network, device="cpu"), TorchModel)
    assert isinstance(load_model(lambda image: image.mean(2)), ScoreModel)
    assert isinstance(load_model(ColourModel), ColourModel)
    assert isinstance(load_model(lambda: model), ColourModel)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("FILE:absent", r"mine\.py: expected an object 'absent', found Net, .*factory, .*; name one"),
        ("FILE:number", r"mine\.py:number: expected a model, an nn.Module or a function of an image, found int"),
        ("FILE:failing", r"mine\.py:failing: failing\(\) failed with ValueError: no weights"),
        ("FILE:refusing", r"mine\.py:refusing: mean: expected values .*; divide mean and std by 255$"),
        ("FILE:factory_of_factories", "found a factory that returns another factory"),
        ("FOLDER/none.py:model", r"none\.py: expected a Python file that defines model, found no such file"),
        (
            "FOLDER/broken.py:model",
            r"broken\.py: expected a file that runs, found ModuleNotFoundError: No module named 'not_there'",
        ),
        ("FILE", r"mine\.py: expected a checkpoint for this config, or .*mine\.py:NAME"),
        ("a network", "model: expected a config and a checkpoint, .* found 'a network'"),
        (("a.py", "b.pth", "c"), "model: expected a config and a checkpoint, found 3 values"),
        (("FILE",), "model: expected a config and a checkpoint, found 1 values"),
        (3, "model: expected a model, an nn.Module or a function of an image, found int"),
        (None, "model: expected a model, .* found NoneType"),
    ],
    ids=str,
)
def test_what_is_no_model_is_refused(file, spec, message):
    (file.parent / "broken.py").write_text("import not_there\n")
    if isinstance(spec, str):
        spec = spec.replace("FILE", str(file)).replace("FOLDER", str(file.parent))
    with pytest.raises(InputError, match=message):
        load_model(spec)


def test_a_checkpoint_belongs_to_a_config(file, config, checkpoint):
    with pytest.raises(InputError, match=r"mine\.py:model is a complete model"):
        load_model(f"{file}:model", checkpoint)
    with pytest.raises(InputError, match="checkpoint: expected a config to go with it, found ColourModel"):
        load_model(ColourModel(), checkpoint)
    with pytest.raises(InputError, match=r"gone\.pth does not exist"):
        load_model(config, checkpoint.with_name("gone.pth"))
    with pytest.raises(InputError, match=r"config .*gone\.py does not exist"):
        load_model(config.with_name("gone.py"), checkpoint)
    with pytest.raises(InputError, match="model: expected a config and a checkpoint, found 2 values"):
        load_model((config, checkpoint), checkpoint)


def test_a_device_that_would_have_no_effect_is_refused():
    module = TorchModel(nn.Conv2d(3, 2, 1), device="cpu", mean=(0, 0, 0), std=(1, 1, 1))
    assert load_model(module, device="cpu") is module
    with pytest.raises(InputError, match="a model with a device of its own"):
        load_model(module, device="meta")
    with pytest.raises(InputError, match="which is a score function"):
        load_model(lambda image: image.mean(2), device="cpu")
