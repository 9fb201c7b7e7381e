"""Collectives over all processes; on one process, or with no process group, each is the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """How many processes train together; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate every process's rows in rank order; processes may hold different numbers of them.

    Args:
        rows: Shape ``(n_rank, ...)``, the same trailing shape on every process.

    Returns:
        Shape ``(sum of n_rank, ...)``, the same on every process.
    """
    processes = num_processes()
    if processes == 1:
        return rows
    length = torch.tensor([len(rows)], device=rows.device)
    lengths = [torch.zeros_like(length) for _ in range(processes)]
    dist.all_gather(lengths, length)
    sizes = [int(size) for size in lengths]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    gathered = [torch.zeros_like(padded) for _ in range(processes)]
    dist.all_gather(gathered, padded)
    return torch.cat([block[:size] for block, size in zip(gathered, sizes, strict=True)])
