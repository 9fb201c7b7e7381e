"""Collectives over all processes; on one process, or with no process group, each is the identity."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """How many processes train together; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if num_processes() > 1 else 0


@torch.no_grad()
def all_sum(values: Tensor) -> Tensor:
    """Sum over processes, elementwise. Any shape, the same everywhere; a new tensor, or ``values`` on one process."""
    return _reduced(values, dist.ReduceOp.SUM) if num_processes() > 1 else values


@torch.no_grad()
def all_max(values: Tensor) -> Tensor:
    """Largest over processes, elementwise. Any shape, the same everywhere; not of bool."""
    return _reduced(values, dist.ReduceOp.MAX) if num_processes() > 1 else values


def _reduced(values: Tensor, operation: Any) -> Tensor:
    values = values.clone()
    dist.all_reduce(values, operation)
    return values


@torch.no_grad()
def gather_equal(values: Tensor) -> Tensor:
    """Stack every process's tensor in rank order. Any shape S, the same everywhere; gives ``(processes, *S)``."""
    processes = num_processes()
    if processes == 1:
        return values[None]
    gathered = [torch.empty_like(values) for _ in range(processes)]
    dist.all_gather(gathered, values.contiguous())
    return torch.stack(gathered)


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate every process's rows in rank order; processes may hold different numbers of them.

    Args:
        rows: Shape ``(n_rank, ...)``, the same trailing shape on every process.

    Returns:
        Shape ``(sum of n_rank, ...)``, the same on every process.
    """
    if num_processes() == 1:
        return rows
    sizes = gather_equal(torch.tensor(len(rows), device=rows.device)).tolist()
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    return torch.cat([block[:size] for block, size in zip(gather_equal(padded), sizes, strict=True)])
