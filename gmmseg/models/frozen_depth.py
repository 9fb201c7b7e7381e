"""Class likelihoods from a frozen copy of the pretrained backbone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.models.mmseg import quiet_mmengine
from gmmseg.posthoc.mixtures import WhitenedDensities

SCALES = (1.0, 2.0)
"""Sizes at which the frozen copy processes the input, relative to the network's input size."""


class FrozenDepth(nn.Module):
    """Class log-likelihoods of a feature map of the backbone in its pretrained state.

    Training on few classes removes features that would distinguish other objects. A frozen copy of the backbone
    keeps them, so mixtures over its deepest features notice objects that belong to no class. Features of the input
    at several sizes are concatenated, so that one vector describes a place and its surroundings. The log-likelihood
    of these features, times ``weight``, is added to that of the mixtures over the head's embedding, as if both were
    independent given the class.

    Args:
        backbone: mmseg config of the backbone.
        stage: Feature map to use, from 0; -1 is the deepest.
        channels: Number of channels of that feature map.
        scales: Sizes of the input, relative to the network's input size. The features of all sizes are resized to
            the largest map and concatenated, so that D = ``channels * len(scales)``.
        num_classes: Number of classes, C.
        num_components: Largest number of Gaussians per class, P.
        weight: Weight of the log-likelihood. With (dimensions of the head's embedding) / D, a dimension counts the
            same in both mixtures.
    """

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        stage: int,
        channels: int,
        scales: Sequence[float],
        num_classes: int,
        num_components: int,
        weight: float,
    ) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.stage = stage
        self.scales = tuple(scales)
        self.weight = weight
        self.densities = WhitenedDensities(num_classes, num_components, channels * len(self.scales))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenDepth:
        """Stay in evaluation mode, whatever the mode of the network around it."""
        return super().train(False)

    @torch.no_grad()
    def embed(self, inputs: Tensor) -> Tensor:
        """Compute the features. Shape: ``(B, 3, H, W)`` -> ``(B, D, h, w)``."""
        maps = [self.backbone(_resized(inputs, scale))[self.stage].float() for scale in self.scales]
        size = max((each.shape[2:] for each in maps), key=lambda shape: shape.numel())
        return torch.cat([F.interpolate(each, size, mode="bilinear") for each in maps], 1)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Compute weighted class log-likelihoods at the resolution of the features.

        Shape:
            ``(B, 3, H, W)`` -> ``(B, C, h, w)``.
        """
        features = self.embed(inputs)
        batch, dim, height, width = features.shape
        rows = self.densities(features.permute(0, 2, 3, 1).reshape(-1, dim))
        return self.weight * rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


def pretrained_backbone(config: Config) -> nn.Module:
    """Build the backbone of a config with its pretrained weights.

    Raises:
        InputError: The config names no pretrained weights.
    """
    settings = copy.deepcopy(config.model.backbone)
    if config.model.get("pretrained"):
        settings["init_cfg"] = {"type": "Pretrained", "checkpoint": config.model.pretrained}
    if not settings.get("pretrained") and (settings.get("init_cfg") or {}).get("type") != "Pretrained":
        raise InputError(
            f"config {config.filename}: expected a backbone with pretrained weights for the frozen copy, found one "
            "without; give a config with pretrained weights, or leave --frozen out"
        )
    backbone = MODELS.build(settings)
    if hasattr(backbone, "init_weights"):
        with quiet_mmengine():
            backbone.init_weights()
    return backbone.eval()


def frozen_config(config: Config, *, stage: int, channels: int, num_components: int, embed_dim: int) -> Config:
    """Add a frozen copy of the backbone to the config of a generative network.

    Args:
        config: Config of a network that gives class log-likelihoods.
        stage: Feature map of the frozen copy to use, from 0; -1 is the deepest.
        channels: Number of channels of that feature map.
        num_components: Largest number of Gaussians per class, P.
        embed_dim: Dimensions of the embedding under the network's other mixtures.

    Returns:
        A changed copy of ``config``.
    """
    config = copy.deepcopy(config)
    config.model.frozen = {
        "backbone": {k: v for k, v in config.model.backbone.items() if k not in ("pretrained", "init_cfg")},
        "stage": stage,
        "channels": channels,
        "scales": list(SCALES),
        "num_components": num_components,
        "weight": embed_dim / (channels * len(SCALES)),
    }
    return config


def _resized(inputs: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return inputs
    size = [max(1, round(side * scale)) for side in inputs.shape[2:]]
    return F.interpolate(inputs, size, mode="bilinear", antialias=True)
