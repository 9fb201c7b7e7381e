"""Messages that processes exchange in a step, counted in real processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing

from anomaly.cli.process import end
from benchmarks._counting import OperationCounter


def _rank(rank: int, processes: int, folder: str, step: Callable[[int], object]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    with OperationCounter(1, 1, 0) as counter:
        step(rank)
    torch.save(counter.sent, f"{folder}/{rank}.pth")
    end(0)


def count_messages(processes: int, folder: Path, step: Callable[[int], object]) -> dict[str, float]:
    """Number of collectives in ``step(rank)`` over gloo processes, and the bytes that each process receives.

    An all-gather receives the part of every other process; a ring all-reduce of n bytes receives 2 n (processes - 1) /
    processes.
    """
    multiprocessing.spawn(_rank, (processes, str(folder), step), nprocs=processes)
    sent: list[tuple[str, int]] = torch.load(folder / "0.pth", weights_only=True)
    share = {"allgather": processes - 1, "allreduce": 2 * (processes - 1) / processes}
    return {
        "processes": processes,
        **Counter(f"{name}_calls" for name, _ in sent),
        "received_bytes": sum(share[name] * size for name, size in sent),
    }
