"""What the backbone saw before it was trained on few classes: densities of a frozen copy's features."""

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
from gmmseg.posthoc.mixtures import WhitenedDensities

SCALES = (1.0, 2.0)
"""Sizes, relative to the network's input, at which the frozen copy looks at it."""


class FrozenDepth(nn.Module):
    """Class log-likelihoods of a feature map of the backbone as it was pretrained.

    Training on a few classes makes features forget what tells other things apart. A frozen copy of the backbone does
    not, and mixtures over its deepest features see what no class has: of the input at several sizes, one feature vector
    with what a place is and what is around it. Their log-likelihood, times ``weight``, is added to that of the mixtures
    over the head's embedding, as if both were independent given the class.

    Args:
        backbone: Config of the copy.
        stage: Which of its feature maps, from 0; -1 is the deepest.
        channels: Of that map.
        scales: Sizes of the input, relative to the network's; features of all are resized to the largest map and
            concatenated: D = ``channels`` * number of scales.
        num_classes: C.
        num_components: P, most Gaussians of a class.
        weight: Of its log-likelihood; what makes a dimension of both count alike is (embedding's dimensions) / D.
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
        """Stay in eval mode whatever the network around does."""
        return super().train(False)

    @torch.no_grad()
    def embed(self, inputs: Tensor) -> Tensor:
        """The features. Shape: ``(B, 3, H, W)`` -> ``(B, D, h, w)``."""
        maps = [self.backbone(_resized(inputs, scale))[self.stage].float() for scale in self.scales]
        size = max((each.shape[2:] for each in maps), key=lambda shape: shape.numel())
        return torch.cat([F.interpolate(each, size, mode="bilinear") for each in maps], 1)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Weighted class log-likelihoods at the features' resolution. Shape: ``(B, 3, H, W)`` -> ``(B, C, h, w)``."""
        features = self.embed(inputs)
        batch, dim, height, width = features.shape
        rows = self.densities(features.permute(0, 2, 3, 1).reshape(-1, dim))
        return self.weight * rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


def pretrained_backbone(config: Config) -> nn.Module:
    """Build a config's backbone with the weights that it is pretrained with.

    Raises:
        InputError: It asks for none.
    """
    settings = copy.deepcopy(config.model.backbone)
    if config.model.get("pretrained"):
        settings["init_cfg"] = {"type": "Pretrained", "checkpoint": config.model.pretrained}
    if not settings.get("pretrained") and (settings.get("init_cfg") or {}).get("type") != "Pretrained":
        raise InputError(
            f"config {config.filename}: expected a backbone with pretrained weights, for a frozen copy, found "
            "one that starts from scratch; give another config"
        )
    backbone = MODELS.build(settings)
    if settings.get("init_cfg"):
        backbone.init_weights()
    return backbone.eval()


def frozen_config(config: Config, *, stage: int, channels: int, num_components: int, embed_dim: int) -> Config:
    """Give the config of the same generative network with a frozen copy of its backbone.

    Args:
        config: Of a network with class log-likelihoods.
        stage: Which feature map, from 0; -1 is the deepest.
        channels: Of that map.
        num_components: P, most Gaussians of a class.
        embed_dim: Dimensions of the embedding that the network's own mixtures are over.
    """
    config = copy.deepcopy(config)
    config.model.frozen = {
        "backbone": {k: v for k, v in config.model.backbone.items() if k not in ("pretrained", "init_cfg")},
        **{"stage": stage, "channels": channels, "scales": list(SCALES), "num_components": num_components},
        "weight": embed_dim / (channels * len(SCALES)),
    }
    return config


def _resized(inputs: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return inputs
    size = [max(1, round(side * scale)) for side in inputs.shape[2:]]
    return F.interpolate(inputs, size, mode="bilinear", antialias=True)
