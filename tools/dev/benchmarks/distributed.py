"""An evaluation of 16 images of 1024 x 512 pixels and five scores by one process, and by two that share the images.

The network is a GMMSeg SegFormer MiT-B0 of 19 classes with random weights. Every process has one thread, so that two of
them have twice the processor of one. Seconds are those of process 0, from the first image to the result.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import anomaly
from anomaly import Dataset
from benchmarks._frames import SCORES, network, write_frames
from benchmarks._measure import machine

FRAMES, SIZE, REPEATS = 16, (512, 1024), 2
CRITERIA = {"speedup": ("at least", 1.6)}


def _seconds(model: Any, dataset: Dataset, *, distributed: bool) -> float:
    start = time.perf_counter()
    anomaly.evaluate(model, dataset, SCORES, closed_set=False, report_images=0, distributed=distributed)
    return time.perf_counter() - start


def _process(rank: int, world: int, folder: Path, dataset: Dataset) -> None:
    """Evaluate alone on process 0, then together; write the seconds."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    model, found = network(scale=(SIZE[1], SIZE[0])), []
    _seconds(model, dataset.limit(1), distributed=True)  # warms up
    for _ in range(REPEATS):
        alone = _seconds(model, dataset, distributed=False) if rank == 0 else 0.0
        dist.barrier()
        found.append((alone, _seconds(model, dataset, distributed=True)))
    if rank == 0:
        (folder / "seconds.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def measure() -> dict[str, object]:
    """Shortest seconds of one and of two processes, and how many times faster two are."""
    with tempfile.TemporaryDirectory() as place:
        dataset = write_frames(Path(place, "frames"), FRAMES, SIZE)
        mp.spawn(_process, args=(2, Path(place), dataset), nprocs=2)
        one, two = map(min, zip(*json.loads(Path(place, "seconds.json").read_text()), strict=True))
    return {
        **machine(),
        "frames": FRAMES,
        "one_process_s": one,
        "two_processes_s": two,
        "one_process_frames_per_s": FRAMES / one,
        "two_processes_frames_per_s": FRAMES / two,
        "speedup": one / two,
    }
