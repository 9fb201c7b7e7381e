"""Collective operations over processes. With one process, or without a process group, each is the identity."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if num_processes() > 1 else 0


@torch.no_grad()
def all_sum(values: Tensor) -> Tensor:
    """Sum over processes, elementwise.

    Args:
        values: Any shape, the same on every process.

    Returns:
        A new tensor of that shape; ``values`` itself with one process.
    """
    return _reduced(values, dist.ReduceOp.SUM) if num_processes() > 1 else values


@torch.no_grad()
def all_max(values: Tensor) -> Tensor:
    """Take the maximum over processes, elementwise.

    Args:
        values: Any shape, the same on every process, and any dtype except bool.

    Returns:
        A new tensor of that shape; ``values`` itself with one process.
    """
    return _reduced(values, dist.ReduceOp.MAX) if num_processes() > 1 else values


def _reduced(values: Tensor, operation: Any) -> Tensor:
    values = values.clone()
    dist.all_reduce(values, operation)
    return values


@torch.no_grad()
def gather_equal(values: Tensor) -> Tensor:
    """Stack the tensors of all processes in rank order.

    Args:
        values: Any shape S, the same on every process.

    Returns:
        Shape ``(processes, *S)``.
    """
    processes = num_processes()
    if processes == 1:
        return values[None]
    gathered = [torch.empty_like(values) for _ in range(processes)]
    dist.all_gather(gathered, values.contiguous())
    return torch.stack(gathered)


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes in rank order.

    Args:
        rows: Shape ``(n, ...)``; n may differ between processes, the trailing shape may not.

    Returns:
        Shape ``(sum of n, ...)``, the same on every process.
    """
    if num_processes() == 1:
        return rows
    sizes = gather_equal(torch.tensor(len(rows), device=rows.device)).tolist()
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    return torch.cat([block[:size] for block, size in zip(gather_equal(padded), sizes, strict=True)])
