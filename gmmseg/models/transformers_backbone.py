"""Any backbone of Hugging Face's transformers (DINOv2, DINOv3, Swin, ConvNeXt, ResNet, ...) as an mmseg backbone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule

from anomaly.models import transformers_backbone
from gmmseg.registry import MODELS


@MODELS.register_module()
class TransformersBackbone(transformers_backbone.TransformersBackbone, BaseModule):
    """Feature maps of a ``transformers.AutoBackbone``; the extra ``transformers`` installs the library.

    With ``config``, building the backbone needs neither a network connection nor weights. Without it, the
    architecture is read from ``name``.

    Images whose sides are not multiples of the patch size are resized (bilinear) to the nearest multiples, so that
    the maps cover the whole image. Normalisation is that of the config's ``data_preprocessor``.

    Parameters that do not contribute to the maps, such as mask tokens and blocks after the last stage, have no
    gradients.

    Args:
        name: Model id on the Hugging Face hub, or a folder that ``save_pretrained`` wrote.
        config: The architecture: ``model_type`` and settings of its configuration class in transformers. If ``name``
            is given too, it only names the weights.
        stages: Indices of the feature maps to return, in increasing order; negative ones count from the end. Index 0
            is the stem (the patch embedding of a vision transformer, whose map i is that after block i). Default:
            the last one.
        pretrained: Load the weights of ``name`` in :meth:`init_weights`, which mmengine calls when training starts,
            from safetensors files only. Code of the model's author is never run.
        revision: Branch, tag or commit of the model on the hub; the default is its main branch.
        frozen: Keep the weights as they are: no gradients, and always in evaluation mode.
        init_cfg: Initialisation config of mmengine; weights named here replace those of ``name``.

    Attributes:
        out_channels: Number of channels of each map.
        network: The library's backbone.

    Shape:
        Images ``(B, 3, H, W)`` to one float map ``(B, out_channels[i], h_i, w_i)`` per stage, in the library's order:
        finest first for hierarchical networks; all of one size for vision transformers.

    Raises:
        InputError: transformers is not installed; the architecture is unknown, has no backbone class or cannot be
            built; a stage is out of range.

    Source: Wolf et al., Transformers: State-of-the-Art Natural Language Processing (EMNLP 2020, demonstrations).
    """

    def __init__(
        self,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        stages: Sequence[int] | None = None,
        pretrained: bool = False,
        revision: str | None = None,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        if pretrained and name is None and config is not None:
            raise transformers_backbone.nameless("pretrained=True without a name")
        super().__init__(name, config, stages, revision, frozen)
        self.init_cfg = copy.deepcopy(init_cfg)
        self.pretrained = pretrained
        self.network.is_init = True  # mmengine calls init_weights of what has it, and the library may draw new ones

    def init_weights(self) -> None:
        """Load the pretrained weights, if they are asked for; otherwise all weights stay as they are.

        Raises:
            InputError: The weights cannot be had, or belong to another architecture.
        """
        if self.pretrained and not self.is_init:
            self.load_weights()
        super().init_weights()
