"""Tiny evaluation sets on disk, in every layout the readers know, with labels known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8
NAMES = ("cow", "bear", "tyre")


def photo(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Give an RGB photograph (H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def label(values: Sequence[int], height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Give a label map (H, W) that repeats the values in reading order."""
    return np.resize(np.array(values, dtype=np.uint8), (height, width))


def write(path: Path, pixels: np.ndarray) -> Path:
    """Write an image in the format of its suffix, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def road_anomaly(
    root: Path,
    labels: Mapping[str, Sequence[int]] | None = None,
    suffix: str = ".jpg",
    listed: bool = True,
) -> Path:
    """Write RoadAnomaly's layout (also that of street_scenes): by default 0 known and 2 anomaly."""
    labels = labels or dict.fromkeys(NAMES, (0, 0, 2))
    for seed, (name, values) in enumerate(labels.items()):
        write(root / "frames" / f"{name}{suffix}", photo(seed))
        write(root / "frames" / f"{name}.labels" / "labels_semantic.png", label(values))
    if listed:
        (root / "frame_list.json").write_text(json.dumps([f"{name}{suffix}" for name in labels]))
    return root


def camvid_ood(root: Path, values: Sequence[int] = tuple(range(13))) -> Path:
    """Write CamVid-OOD as folders ``images`` and ``labels``."""
    for seed, name in enumerate(NAMES):
        write(root / "images" / f"{name}.jpg", photo(seed))
        write(root / "labels" / f"{name}.png", label(values))
    return root


def camvid_ood_published(root: Path, prefix: str | None = "/SegNet/CamVid/") -> Path:
    """Write CamVid-OOD as published; ``prefix`` opens the paths in ``test_ood.txt`` (None: no such file)."""
    for seed, name in enumerate(NAMES):
        write(root / "test_ood" / f"{name}.png", photo(seed))
        write(root / "testannot_ood" / f"{name}.png", label(tuple(range(13))))
    if prefix is not None:
        lines = [f"{prefix}test_ood/{name}.png {prefix}testannot_ood/{name}.png\n" for name in NAMES]
        (root / "test_ood.txt").write_text("".join(lines))
    return root
