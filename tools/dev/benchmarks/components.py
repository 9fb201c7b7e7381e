"""Components of a 1280x720 frame with about 50 objects: counting pairs of labels against a loop over components."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

from anomaly.metrics.functional.components import TRACKS, frame_components
from benchmarks._measure import best_seconds

CRITERIA = {"speedup": ("at least", 20.0), "largest_error": ("at most", 1e-9)}
TRACK = TRACKS["obstacle_track"]


def oracles() -> ModuleType:
    """The loop that the tests compare with."""
    place = Path(__file__).resolve().parents[3] / "tests" / "oracles.py"
    spec = importlib.util.spec_from_file_location("oracles", place)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blobs(seed: int, share: float) -> np.ndarray:
    """Smooth noise cut at a quantile: about 50 components. Shape: ``(720, 1280)``, bool."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(720, 1280)), (0, 0), 22)
    return noise > np.quantile(noise, 1 - share)


def measure() -> dict[str, float | int]:
    """Seconds per frame of both, and their largest difference."""
    cv2.setNumThreads(torch.get_num_threads())
    label = blobs(0, 0.1).astype(np.uint8)
    label[blobs(1, 0.1)] = 255
    predicted = (blobs(2, 0.08) & (label != 1)) | ((label == 1) & ~blobs(3, 0.2))
    slow = oracles().components

    def ours() -> tuple[np.ndarray, ...]:
        found = frame_components(predicted, label, TRACK)
        return found.siou, found.ppv, found.siou_predicted

    def loop() -> tuple[np.ndarray, ...]:
        return slow(predicted, label, TRACK.min_predicted, TRACK.min_truth)

    (ours_s,) = best_seconds(ours, repeats=20)
    (loop_s,) = best_seconds(loop, repeats=3)
    pairs = list(zip(ours(), loop(), strict=True))
    return {
        "label_components": len(pairs[0][0]),
        "predicted_components": len(pairs[1][0]),
        "ours_s": ours_s,
        "loop_s": loop_s,
        "speedup": loop_s / ours_s,
        "largest_error": max(float(np.abs(np.sort(a) - np.sort(b)).max()) for a, b in pairs),
    }
