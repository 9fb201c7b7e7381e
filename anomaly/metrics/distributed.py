"""Gathering the metrics of several processes on the first one, one array at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

State = tuple[dict[str, Any], Iterator[npt.NDArray[Any]]]
"""Values that JSON can hold, and arrays that are made one at a time."""

DTYPES = (np.float32, np.float64, np.int64, np.int32, np.uint8)
_END = -1
_NO_COLUMNS = -1


class Mergeable(Protocol):
    """Metrics that can be sent to another process and added to those there."""

    def state(self) -> State:
        """Return the state; its arrays have one or two dimensions and a type of :data:`DTYPES`."""
        ...

    def merge(self, other: Any) -> None:
        """Add the frames of ``other``; raise ``InputError`` if it belongs to another evaluation."""
        ...


_M = TypeVar("_M", bound=Mergeable)


def gather(
    metrics: _M,
    read: Callable[[dict[str, Any], Iterator[npt.NDArray[Any]]], _M],
    group: ProcessGroup | None = None,
) -> None:
    """Add the frames of all processes to the metrics of process 0; each frame counts once.

    Call it on every process of the group. It does nothing without a process group or with a single process. Only the
    metrics of process 0 change. The other processes send their states in the order of their ranks, one array at a
    time, so that process 0 holds one array besides what ``read`` and ``merge`` keep.

    Args:
        metrics: The metrics of this process.
        read: Makes metrics from the header and the arrays of a state, as ``type(metrics).from_state``.
        group: A gloo group to use, whose ranks count; by default all processes, in a gloo group that is made for this
            call, whatever the backend of the default group.

    Raises:
        InputError: A part cannot be read or merged; raised on every process. Process 0 may have added other parts.
    """
    if "torch.distributed" not in sys.modules:  # loaded by whatever makes a process group
        return
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size(group) < 2:
        return
    if group is not None:
        _gather(metrics, read, group)
        return
    own = dist.new_group(backend="gloo")
    try:
        _gather(metrics, read, own)
    finally:
        dist.destroy_process_group(own)


def _gather(metrics: _M, read: Callable[[dict[str, Any], Iterator[npt.NDArray[Any]]], _M], group: ProcessGroup) -> None:
    import torch.distributed as dist

    fault = [""]
    if dist.get_rank(group) == 0:
        headers: list[Any] = [None] * dist.get_world_size(group)
        dist.gather_object(None, headers, group=group, group_dst=0)
        for sender in range(1, len(headers)):
            arrays = _receive(sender, group)
            try:
                if not fault[0]:
                    metrics.merge(read(headers[sender], arrays))
            except InputError as error:
                fault[0] = str(error)
            finally:
                for _ in arrays:  # so that no process waits for its data to be received
                    pass
    else:
        header, arrays = metrics.state()
        dist.gather_object(header, group=group, group_dst=0)
        _send(arrays, group)
    dist.broadcast_object_list(fault, group=group, group_src=0)
    if fault[0]:
        raise InputError(fault[0])


def _send(arrays: Iterator[npt.NDArray[Any]], group: ProcessGroup) -> None:
    """Send each array to process 0, its type and shape first."""
    import torch
    import torch.distributed as dist

    for array in arrays:
        rows, columns = (*array.shape, _NO_COLUMNS)[:2]
        dist.send(torch.tensor([DTYPES.index(array.dtype.type), rows, columns]), group=group, group_dst=0)
        if array.size:
            dist.send(torch.from_numpy(np.array(array, order="C")), group=group, group_dst=0)
    dist.send(torch.tensor([_END, 0, 0]), group=group, group_dst=0)


def _receive(sender: int, group: ProcessGroup) -> Iterator[npt.NDArray[Any]]:
    """Yield the arrays that another process sends."""
    import torch
    import torch.distributed as dist

    announced = torch.empty(3, dtype=torch.int64)
    while True:
        dist.recv(announced, group=group, group_src=sender)
        kind, rows, columns = announced.tolist()
        if kind == _END:
            return
        array = np.empty(rows if columns == _NO_COLUMNS else (rows, columns), DTYPES[kind])
        if array.size:
            dist.recv(torch.from_numpy(array), group=group, group_src=sender)
        yield array
