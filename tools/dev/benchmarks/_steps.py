"""Training steps of a generative SegFormer head and of whole networks, on random images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import SegformerHead
from mmseg.structures import SegDataSample

from anomaly.cli.mmseg_config import read_config
from gmmseg.models.heads import FastSegformerHead, GMMHeadMixin, SegformerGMMSegHead

SQUARE, CHANNELS = 32, [64, 128, 320, 512]  # CHANNELS: feature maps of MiT-B1 to B5


def labelled(batch: int, size: int, num_classes: int) -> list[SegDataSample]:
    """Label maps of squares of random classes, a tenth of them ignored."""
    squares = torch.randint(0, num_classes, (batch, 1, size // SQUARE, size // SQUARE))
    squares[torch.rand(squares.shape) < 0.1] = 255
    maps = squares.repeat_interleave(SQUARE, 2).repeat_interleave(SQUARE, 3)
    shape = {"img_shape": (size, size), "ori_shape": (size, size)}
    return [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=shape) for label in maps]


class _PublishedHead(GMMHeadMixin, SegformerHead):
    """The fusion of mmseg, as in the published code."""


class HeadStep:
    """One training step of a SegFormer head with a mixture, when called; under autocast if ``amp`` is set."""

    def __init__(
        self, batch: int, size: int, num_classes: int, mixture: dict, published: bool = False, device: str = "cpu"
    ) -> None:
        self.device, self.amp = device, False
        self.fusion: Any = SegformerHead if published else FastSegformerHead
        self.head: Any = (_PublishedHead if published else SegformerGMMSegHead)(
            **{"in_channels": CHANNELS, "in_index": [0, 1, 2, 3], "channels": 256, "norm_cfg": {"type": "BN"}},
            num_classes=num_classes,
            mixture=mixture,
        ).to(device)
        self.inputs = [
            torch.randn(batch, channels, size // stride, size // stride).to(device).requires_grad_()
            for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
        ]
        self.samples = [sample.to(device) for sample in labelled(batch, size, num_classes)]

    def __call__(self) -> None:
        """Forward, losses, mixture and backward."""
        with torch.autocast(self.device, enabled=self.amp):
            losses = self.head.loss(self.inputs, self.samples, {})
        sum(value for name, value in losses.items() if "loss" in name).backward()

    def fuse(self) -> None:
        """The part before the classifier, forward and backward."""
        self.head.projection(self.fusion.forward(self.head, self.inputs)).sum().backward()


class NetworkStep:
    """One training step of a config's network with its optimizer, when called; weights are random."""

    def __init__(self, config: Path, batch: int, size: int, device: str = "cpu", amp: bool = False) -> None:
        from mmengine.logging import MMLogger
        from mmengine.model import revert_sync_batchnorm
        from mmengine.optim import build_optim_wrapper
        from mmengine.registry import init_default_scope
        from mmseg.registry import MODELS

        MMLogger.get_current_instance().setLevel("WARNING")  # else a line for every parameter
        settings = read_config(config)
        settings.model.data_preprocessor.size = (size, size)  # else smaller images are padded to the config's size
        init_default_scope("mmseg")
        if amp:
            settings.optim_wrapper.type = "AmpOptimWrapper" if device == "cuda" else "gmmseg.CPUAmpOptimWrapper"
        self.network: Any = revert_sync_batchnorm(MODELS.build(settings.model)).to(device).train()
        self.optimizer = build_optim_wrapper(self.network, settings.optim_wrapper)
        samples = labelled(batch, size, settings.model.decode_head.num_classes)
        self.data = {"inputs": [*torch.randint(0, 256, (batch, 3, size, size))], "data_samples": samples}

    def __call__(self) -> None:
        """The complete training step of mmengine."""
        self.network.train_step(self.data, self.optimizer)
