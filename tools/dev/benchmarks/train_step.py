"""One training step on 2 x 768 x 768 pixels of 19 classes: this package, the published code, and the softmax network.

Head: fusion, densities, losses, assignment, memory, EM and backward pass of a SegFormer head, compared with the same
head and the classifier of tests/oracles.py, which works like the published code. The memories are full (32,000 features
per component), and every step has an M-step. Network: the complete mmengine step of MiT-B0, compared with its softmax
network.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from statistics import median

import torch

from benchmarks._measure import all_seconds, machine, peak_mb, seconds_by_function
from benchmarks._steps import HeadStep, NetworkStep

ROOT = Path(__file__).resolve().parents[3]
CONFIG = "segformer-gmmseg_mit-b0_8xb2-80k_cityscapes-768x768.py"
SIZE, CLASSES = 768, 19
MIXTURE = {"num_components": 5, "embed_dim": 64, "memory_size": 32_000, "memory_start": "random", "em_interval": 1}
CRITERIA = {"head_speedup": ("at least", 5.0), "network_ratio": ("at most", 1.3)}


def _head() -> dict[str, float | dict[str, float]]:
    ours, naive = HeadStep(2, SIZE, CLASSES, MIXTURE), HeadStep(2, SIZE, CLASSES, MIXTURE, published=True)
    published = runpy.run_path(str(ROOT / "tests" / "oracles.py"))["PublishedClassifier"]
    naive.head.classifier = published(CLASSES, 5, 64, 32_000, em_interval=1)
    ours_mb, naive_mb = peak_mb(ours), peak_mb(naive)  # also warms up
    steps = (ours, ours.fuse, naive, naive.fuse)
    seconds = [median(durations) for durations in all_seconds(*steps, repeats=3)]
    return {
        "head_s": seconds[0],
        "head_fusion_s": seconds[1],
        "head_naive_s": seconds[2],
        "head_naive_fusion_s": seconds[3],
        "head_speedup": seconds[2] / seconds[0],
        "classifier_speedup": (seconds[2] - seconds[3]) / (seconds[0] - seconds[1]),
        "head_peak_mb": ours_mb,
        "head_naive_peak_mb": naive_mb,
        "head_parts": seconds_by_function(ours, "/gmmseg/", "segformer_head", "cross_entropy_loss", "accuracy"),
        "head_naive_parts": seconds_by_function(naive, "oracles", "segformer_head", "cross_entropy_loss", "accuracy"),
    }


def _network() -> dict[str, float]:
    config = ROOT / "configs" / "gmmseg" / CONFIG
    ours = NetworkStep(config, 2, SIZE)
    twin = NetworkStep(ROOT / "configs" / "softmax" / config.name.replace("-gmmseg", ""), 2, SIZE)
    ours_mb, twin_mb = peak_mb(ours), peak_mb(twin)
    durations = all_seconds(ours, twin, repeats=7)
    return {
        "network_s": median(durations[0]),
        "network_twin_s": median(durations[1]),
        "network_ratio": median(a / b for a, b in zip(*durations, strict=True)),
        "network_peak_mb": ours_mb,
        "network_twin_peak_mb": twin_mb,
    }


def measure() -> dict[str, float | int | str | dict[str, float]]:
    """Median seconds, ratios, peak memory beyond that of the process, and seconds by function."""
    torch.manual_seed(0)
    return {**machine(), **_head(), **_network()}
