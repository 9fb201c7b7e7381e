"""A tiny dataset of two folders with score maps, and the commands that need no network on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
FOLDERS = ("--folder", "images", "labels", "--label-values", "0=known", "1=anomaly", "255=ignore")
EVALUATE = (
    *("evaluate", "--predictions", "maps", *FOLDERS, "--report", "--save-states", "--bootstrap", "200"),
    *("--components", "obstacle_track", "--post", "none", "smooth:sigma=1"),
)
"""Of ``anomaly``, in the folder; ``--out`` is to follow."""


def write_dataset(folder: Path) -> None:
    """Write ``images``, ``labels`` and ``maps``: three frames whose anomalies score higher, with overlap."""
    random = np.random.default_rng(0)
    for name in ("images", "labels", "maps"):
        (folder / name).mkdir()
    for frame in range(3):
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        label[5:15, 4 : 14 + frame] = 1
        label[:2] = 255
        image = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{frame}.png")
        Image.fromarray(label).save(folder / "labels" / f"{frame}.png")
        score = random.normal(size=label.shape) + 2.0 * (label == 1)
        np.save(folder / "maps" / f"{frame}.npy", score.astype(np.float32))


def datasets_of(results: Path) -> list[dict[str, Any]]:
    """The part of a ``results.json`` that does not depend on where and when it was measured."""
    found: list[dict[str, Any]] = json.loads(results.read_text())["datasets"]
    return found
