"""Images of 2048 x 1024 pixels with labels on disk, the network that scores them, and the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from anomaly import Dataset, from_folders
from anomaly.cli.mmseg_config import read_config

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "configs" / "gmmseg" / "segformer-gmmseg_mit-b0_8xb2-80k_cityscapes-768x768.py"
SCORES = ("gmm_nll", "msp", "max_logit", "energy", "entropy")
SIZE = (1024, 2048)
"""Height and width, those of Cityscapes."""


def network(device: str = "cpu", scale: tuple[int, int] | None = None) -> Any:
    """A GMMSeg SegFormer MiT-B0 of 19 classes with random weights, as a model of this package.

    Args:
        device: Its device.
        scale: Width and height to which images are resized; by default those of the config.
    """
    from anomaly.models.mmseg import MMSegModel, build_model

    config = read_config(CONFIG)
    for step in config.test_dataloader.dataset.pipeline:
        if scale is not None and step.type == "Resize":
            step.scale = scale
    torch.manual_seed(0)
    return MMSegModel(config, build_model(config), device)


def write_frames(folder: Path, count: int, size: tuple[int, int] = SIZE) -> Dataset:
    """Write smooth images with a little noise, whose PNG files are as large as those of a camera; 1 % is anomalous."""
    random = np.random.default_rng(0)
    height, width = size
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        coarse = random.integers(0, 256, (height // 32, width // 32, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        image = (smooth + random.normal(0, 1, smooth.shape)).clip(0, 255).astype(np.uint8)
        label = np.zeros(size, np.uint8)
        label[: height // 10, : width // 10] = 1
        label[-height // 20 :] = 255
        cv2.imwrite(str(folder / "images" / f"{i:03d}.png"), image)
        cv2.imwrite(str(folder / "labels" / f"{i:03d}.png"), label)
    values: dict[int | str, str] = {0: "known", 1: "anomaly", 255: "ignore"}
    return from_folders(folder / "images", folder / "labels", values, name="frames")
