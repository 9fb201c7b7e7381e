"""Seconds and memory of one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def best_seconds(*calls: Callable[[], object], repeats: int) -> list[float]:
    """Shortest duration of each call; the calls take turns, so that a noisy machine disturbs them alike."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def peak_mb(call: Callable[[], object]) -> float:
    """Memory that ``call`` needs at its peak beyond what the process has, result included, in 10^6 bytes.

    Reads Linux's own account of the process's resident memory; NaN on other systems.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.is_file():
        return float("nan")

    def kilobytes(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    reset.write_text("5")  # the peak starts anew from here
    before = kilobytes("VmRSS")
    result = call()
    peak = kilobytes("VmHWM") - before
    del result
    return peak * 1024 / 1e6
