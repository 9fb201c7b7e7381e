"""Checking frames of 2048x1024 on all cores, compared with decoding them only.

The 24 images and label maps are PNG files, as in Cityscapes, and in the file cache. ``decode`` only decodes them, with
the same library and number of threads.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from anomaly.datasets.check import check_dataset
from anomaly.datasets.folder import open_folders

FRAMES, HEIGHT, WIDTH = 24, 1024, 2048
CRITERIA = {"times_decoding": ("at most", 1.25), "cores_busy": ("at least", 0.85 * min(2, os.cpu_count() or 1))}


def measure() -> dict[str, float | int]:
    """Wall-clock and processor seconds of both, best of three."""
    with tempfile.TemporaryDirectory() as folder:
        images, labels = Path(folder, "images"), Path(folder, "labels")
        _write(images, labels)
        dataset = open_folders("made", images, labels, {0: 0, 1: 1, 255: 255})
        workers = os.cpu_count() or 1

        def decode() -> None:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(_decode, [path for files in dataset.files for path in files.paths]))

        runs = [(_seconds(decode), _seconds(lambda: check_dataset(dataset))) for _ in range(3)]
    decode_s, check_s = (min(found[place][0] for found in runs) for place in (0, 1))
    busy = max(found[1][1] / found[1][0] for found in runs)
    return {
        "frames": FRAMES,
        "cores": workers,
        "decode_s": decode_s,
        "check_s": check_s,
        "times_decoding": check_s / decode_s,
        "cores_busy": busy,
        "frames_per_second": FRAMES / check_s,
    }


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _decode(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _write(images: Path, labels: Path) -> None:
    for folder in (images, labels):
        folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(FRAMES):
        coarse = random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        areas = cv2.resize(random.integers(0, 256, (16, 32), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=0)
        label = np.where(areas > 230, 255, areas > 200).astype(np.uint8)
        cv2.imwrite(str(images / f"{i:03d}.png"), image)
        cv2.imwrite(str(labels / f"{i:03d}.png"), label)
