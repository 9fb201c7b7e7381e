"""Operations, arithmetic, bytes and messages of a step, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


def nbytes(values: Any) -> int:
    """Bytes of all tensors in a nested container."""
    return sum(leaf.nbytes for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


class OperationCounter(TorchDispatchMode):
    """Counts torch's operations except views, their arithmetic and their memory traffic; works on the meta device too.

    ``seconds`` is a roofline model: each operation takes the longest of its launch, its memory traffic and its
    arithmetic. Each operation reads its operands from memory and writes its results there, as in eager mode.

    Args:
        flops: Floating-point operations per second.
        bandwidth: Bytes per second.
        launch: Minimum seconds of an operation.
    """

    def __init__(self, flops: float, bandwidth: float, launch: float) -> None:
        super().__init__()
        self.limits = flops, bandwidth, launch
        self.operations, self.bytes, self.flops, self.waits, self.seconds = 0, 0, 0, 0, 0.0
        self.sent: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            name = func.__name__.split("_.")[0]
            self.sent.append((name, nbytes(args[1] if name == "allgather" else args[0])))  # counted at the sender only
            return result
        aliases = [value.alias_info for value in func._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return result  # a view
        name = func.__name__.split(".")[0]
        count: Callable[..., int] | None = flop_registry.get(getattr(torch.ops.aten, name.rstrip("_"), None))
        flops = count(*args, **(kwargs or {}), out_val=result) if count else 0
        if name == "convolution_backward" and args[9] > 1:  # torch counts groups as if each had all channels
            flops = 4 * args[0].numel() * args[2][0].numel()
        moved = nbytes((args, kwargs)) + nbytes(result)
        peak, bandwidth, launch = self.limits
        self.operations += 1
        # results whose number or value the processor must know before it goes on
        self.waits += name in ("_local_scalar_dense", "nonzero", "_unique2", "bincount")
        self.flops += flops
        self.bytes += moved
        self.seconds += max(launch, flops / peak, moved / bandwidth)
        return result

    def counts(self) -> dict[str, float]:
        """The counts, and the seconds of the roofline model."""
        names = ("operations", "waits", "flops", "bytes", "seconds")
        return {name: getattr(self, name) for name in names}
