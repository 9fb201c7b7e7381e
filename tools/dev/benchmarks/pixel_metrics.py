"""Pixel metrics of 60 frames of 1280x720 against scikit-learn, and of 600 frames of 2048x1024 in exact mode.

Each implementation runs in its own process; memory is counted beyond the 60 frames themselves. The large dataset is
generated frame by frame, and this is not timed.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks._pixel_ways import alone, ours, scikit_learn

CRITERIA = {
    "exact_speedup": ("at least", 30.0),
    "exact_mb": ("at most", 600.0),
    "binned_speedup": ("at least", 40.0),
    "binned_mb": ("at most", 300.0),
    "binned_ap_interval": ("at most", 1e-4),
    "largest_error": ("at most", 1e-9),
    "large_set_peak_mb": ("at most", 2 * 2**30 / 1e6),
}


def measure() -> dict[str, Any]:
    """Seconds, memory, and the largest difference of exact metrics from scikit-learn's."""
    small, large = (60, 720, 1280), (600, 1024, 2048)
    jobs: dict[str, tuple[Any, ...]] = {
        "scikit_learn": (scikit_learn, small),
        "exact": (ours, small, "exact"),
        "binned": (ours, small, "binned"),
    }
    jobs["large_set"] = (ours, large, "exact")
    found = {}
    for name, job in jobs.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found[name] = process.submit(alone, *job).result()
    values: dict[str, Any] = {"megapixels": 60 * 720 * 1280 / 1e6, "scikit_learn_s": found["scikit_learn"][1]}
    values |= {"scikit_learn_mb": found["scikit_learn"][2]}
    for mode in ("exact", "binned"):
        _, seconds, memory = found[mode]
        values |= {f"{mode}_s": seconds, f"{mode}_speedup": values["scikit_learn_s"] / seconds, f"{mode}_mb": memory}
    values["binned_ap_interval"] = found["binned"][0]["ap_interval"]
    expected = found["scikit_learn"][0]
    values["largest_error"] = max(abs(found["exact"][0][name] - value) for name, value in expected.items())
    values |= {"large_set_gigapixels": 600 * 2048 * 1024 / 1e9, "large_set_s": found["large_set"][1]}
    per_pixel = found["large_set"][1] / (600 * 2048 * 1024) / (found["exact"][1] / (60 * 720 * 1280))
    return values | {"large_set_peak_mb": found["large_set"][2], "large_set_time_per_pixel_ratio": per_pixel}
