"""The implementations that ``pixel_metrics`` compares, and how one is timed in its own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomaly.metrics import PixelMetrics
from benchmarks._measure import peak_mb

Frame = tuple[str, npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def frame(index: int, height: int, width: int) -> Frame:
    """Scores like negative log-likelihoods; a tenth of the pixels are anomalous."""
    random = np.random.default_rng(index)
    label = (random.random((height, width), np.float32) < 0.1).astype(np.uint8)
    score = random.standard_normal((height, width), np.float32) * 40 + 200
    return str(index), score + 60 * label, label


def ours(frames: Iterable[Frame], mode: Any) -> tuple[dict[str, Any], float]:
    """Metrics of this package, and the seconds they took."""
    metrics, seconds = PixelMetrics(mode=mode), 0.0
    for each in frames:
        start = time.perf_counter()
        metrics.update(*each)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    found = metrics.compute()
    low, high = found.bounds.get("ap", (0.0, 0.0))
    return {**found.values, "ap_interval": high - low}, seconds + time.perf_counter() - start


def scikit_learn(frames: Iterable[Frame]) -> tuple[dict[str, Any], float]:
    """AUROC, AP and FPR95 of scikit-learn, and the seconds they took."""
    start = time.perf_counter()
    _, scores, labels = zip(*frames, strict=True)
    score, label = (np.concatenate([each.ravel() for each in maps]) for maps in (scores, labels))
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    found = {"auroc": roc_auc_score(label, score), "ap": average_precision_score(label, score)}
    return {**found, "fpr95": fpr[np.argmax(tpr >= 0.95)]}, time.perf_counter() - start


def alone(way: Callable[..., tuple[dict[str, Any], float]], size: tuple[int, int, int], *more: Any) -> Any:
    """Metrics, seconds (best of three; once for scikit-learn and the large dataset), and peak memory in 10^6 bytes."""
    count, height, width = size
    made = (frame(index, height, width) for index in range(count))
    once, frames = way is scikit_learn or count > 60, made if count > 60 else list(made)
    found: list[tuple[dict[str, Any], float]] = []
    memory = peak_mb(lambda: found.append(way(frames, *more)))
    found += [] if once else [way(frames, *more) for _ in range(2)]
    return found[0][0], min(seconds for _, seconds in found), memory
