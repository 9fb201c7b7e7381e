"""Confidence intervals from 2000 replicates of 100 frames of 2 megapixels, and their error against all pixels."""

from __future__ import annotations

import time

import numpy as np

from anomaly.metrics import PixelMetrics
from anomaly.metrics.bootstrap import FrameTable, bootstrap
from anomaly.metrics.definitions import measure as measure_points
from anomaly.metrics.functional.curve import operating_points
from anomaly.metrics.functional.resampling import weighted_metrics

CRITERIA = {"all_s": ("at most", 30.0), "largest_error": ("at most", 1e-4)}
FRAMES, HEIGHT, WIDTH, REPLICATES, RECOMPUTED = 100, 1024, 2048, 2000, 3


def filled() -> PixelMetrics:
    """Scores like negative log-likelihoods; frames differ in the share of anomalies and in how distinct they are."""
    metrics = PixelMetrics()
    for index in range(FRAMES):
        random = np.random.default_rng(index)
        label = (random.random((HEIGHT, WIDTH), np.float32) < random.uniform(0, 0.1)).astype(np.uint8)
        score = random.standard_normal((HEIGHT, WIDTH), np.float32) * 40 + random.normal(200, 10)
        metrics.update(f"{index:03}", score + np.float32(random.normal(60, 20)) * label, label)
    return metrics


def recomputed(metrics: PixelMetrics, times: np.ndarray) -> dict[str, float]:
    """Metrics of all pixels of the sampled frames."""
    kinds: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for count, (_, frame) in zip(times, metrics.frames(), strict=True):
        for kind, scores in zip(kinds, (frame.known, frame.anomaly), strict=True):
            kind += [scores] * int(count)
    known, anomaly = (np.sort(np.concatenate(kind)) for kind in kinds)
    return measure_points([operating_points(known, anomaly)], metrics.levels)


def measure() -> dict[str, float | int]:
    """Seconds of each part, and the largest error of a metric in a few replicates."""
    metrics, times = filled(), [time.perf_counter()]
    result = metrics.compute()
    times.append(time.perf_counter())
    table = FrameTable.of(metrics, result)
    times.append(time.perf_counter())
    bootstrap(table, replicates=REPLICATES)
    times.append(time.perf_counter())
    weights = np.random.default_rng(0).multinomial(FRAMES, np.full(FRAMES, 1 / FRAMES), size=RECOMPUTED)
    found = weighted_metrics(table.counts, weights, metrics.levels)
    start = time.perf_counter()
    exact = [recomputed(metrics, drawn) for drawn in weights]
    recomputing_s = (time.perf_counter() - start) / RECOMPUTED * REPLICATES
    return {
        "frames": FRAMES,
        "megapixels": FRAMES * HEIGHT * WIDTH / 1e6,
        "replicates": REPLICATES,
        "thresholds": len(table.counts.thresholds),
        "exact_figures_s": times[1] - times[0],
        "counts_at_thresholds_s": times[2] - times[1],
        "replicates_s": times[3] - times[2],
        "all_s": times[3] - times[0],
        "recomputing_every_replicate_s": recomputing_s,
        "largest_error": max(abs(found[name][i] - exact[i][name]) for name in found for i in range(RECOMPUTED)),
    }
