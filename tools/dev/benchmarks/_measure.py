"""Time and memory of a call."""

from __future__ import annotations

import cProfile
import os
import pstats
import time
from collections.abc import Callable
from pathlib import Path

import torch


def machine() -> dict[str, str | int]:
    """Hardware and software that measurements depend on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else "unknown",
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def wait() -> None:
    """Wait until the GPU has done what it was given, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def all_seconds(*calls: Callable[[], object], repeats: int) -> list[list[float]]:
    """Durations of each call. The calls alternate, so that other load on the machine affects all of them."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for durations, call in zip(seconds, calls, strict=True):
            wait()
            start = time.perf_counter()
            call()
            wait()
            durations.append(time.perf_counter() - start)
    return seconds


def best_seconds(*calls: Callable[[], object], repeats: int) -> list[float]:
    """Shortest duration of each call; the calls alternate."""
    return [min(durations) for durations in all_seconds(*calls, repeats=repeats)]


def seconds_by_function(call: Callable[[], object], *places: str) -> dict[str, float]:
    """Seconds in the functions of files whose paths contain one of ``places``, and in torch's backward pass.

    The seconds of a function include the functions it calls. Functions with less than 1 % of the total are left out.
    """
    profile = cProfile.Profile()
    start = time.perf_counter()
    profile.runcall(call)
    whole = time.perf_counter() - start
    found: dict[str, float] = {}
    for (file, _, function), times in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        name = f"{Path(file).stem}.{function}" if any(place in file for place in places) else ""
        name = "backward" if "run_backward" in function else name
        if name and not name.endswith(">") and times[3] >= whole / 100:
            found[name] = found.get(name, 0.0) + times[3]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def peak_mb(call: Callable[[], object], device: str = "cpu") -> float:
    """Peak memory of a call beyond what was in use before, result included, in 10^6 bytes.

    On the CPU it reads the resident memory of the process from Linux; NaN on other systems. On ``cuda`` it is what
    torch allocates on the GPU.
    """
    if device == "cuda":
        wait()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        result = call()
        wait()
        del result
        return (torch.cuda.max_memory_allocated() - start) / 1e6
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.is_file():
        return float("nan")

    def kilobytes(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    reset.write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    result = call()
    peak = kilobytes("VmHWM") - before
    del result
    return peak * 1024 / 1e6
