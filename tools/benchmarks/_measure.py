"""Seconds and memory of one call."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def best_seconds(*calls: Callable[[], object], repeats: int) -> list[float]:
    """Shortest duration of each call; the calls take turns, so that a noisy machine disturbs them alike."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def peak_tensor_mb(call: Callable[[], object]) -> float:
    """Largest sum of torch CPU tensors alive at once that ``call`` allocated itself, in 10^6 bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = call()
    del result
    alive = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak / 1e6
