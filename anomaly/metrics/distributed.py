"""Gathering the metrics of several processes on the first one, one array at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from anomaly.errors import InputError

if TYPE_CHECKING:
    from anomaly.metrics.pixel import PixelMetrics

_DTYPES = (np.float32, np.float64, np.int64)
_END = -1


def gather(metrics: PixelMetrics) -> None:
    """Add the frames of all processes to the metrics of process 0; each frame counts once.

    Call it on every process of the default group. It does nothing without a group or with a single process. Only the
    metrics of process 0 change. The data are sent over gloo, whatever the backend of the default group.

    Args:
        metrics: The metrics of this process.

    Raises:
        InputError: :meth:`PixelMetrics.merge` fails for a part; raised on every process.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    group = dist.new_group(backend="gloo")
    try:
        header, arrays = metrics.state()
        headers: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(headers, header, group=group)
        fault = [""]
        if dist.get_rank() == 0:
            for sender in range(1, len(headers)):
                fault[0] = fault[0] or _take(metrics, headers[sender], _receive(sender, group))
        else:
            _send(arrays, group)
        dist.broadcast_object_list(fault, src=0, group=group)
    finally:
        dist.destroy_process_group(group)
    if fault[0]:
        raise InputError(fault[0])


def _take(metrics: PixelMetrics, header: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]) -> str:
    """Merge the state that another process sends; return an error message, or an empty text, after receiving all."""
    try:
        metrics.merge(metrics.from_state(header, arrays, **metrics.memory))
    except InputError as error:
        return str(error)
    finally:
        for _ in arrays:
            pass
    return ""


def _send(arrays: Iterator[npt.NDArray[Any]], group: dist.ProcessGroup) -> None:
    for array in arrays:
        dist.send(torch.tensor([array.size, _DTYPES.index(array.dtype.type)]), 0, group=group)
        if array.size:
            dist.send(torch.from_numpy(np.array(array)), 0, group=group)
    dist.send(torch.tensor([_END, 0]), 0, group=group)


def _receive(sender: int, group: dist.ProcessGroup) -> Iterator[npt.NDArray[Any]]:
    announced = torch.empty(2, dtype=torch.int64)
    while dist.recv(announced, sender, group=group) is not None and announced[0] != _END:
        array = np.empty(int(announced[0]), _DTYPES[int(announced[1])])
        if array.size:
            dist.recv(torch.from_numpy(array), sender, group=group)
        yield array
