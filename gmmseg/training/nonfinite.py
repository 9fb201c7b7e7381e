"""Find the layer of a network in which the first NaN or infinity appears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def describe(values: Tensor) -> str:
    """Count the values that are not finite, such as ``3 NaN and 0 infinite of 128 values``."""
    return f"{int(values.isnan().sum())} NaN and {int(values.isinf().sum())} infinite of {values.numel()} values"


def is_bad(value: Any) -> bool:
    """Return whether ``value`` is a floating-point tensor that holds a NaN or an infinity."""
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())


def first_bad_layer(model: Any, inputs: Tensor) -> str | None:
    """Repeat the forward pass of a batch, and describe the first layer with an output that is not finite.

    Layers are modules without children. The pass computes no loss, so the mixtures do not change. Batch statistics
    are not exchanged with other processes.

    Args:
        model: An mmseg segmentor in training.
        inputs: The preprocessed images. Shape ``(B, 3, H, W)``.

    Returns:
        Text such as ``backbone.stem (Conv2d), with 3 NaN and 0 infinite of 128 values``; ``None`` if all outputs are
        finite.
    """
    found: list[str] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.eval()
        if next(module.children(), None) is None:
            handles.append(module.register_forward_hook(_Finder(name, found)))
    try:
        with torch.no_grad():
            model(inputs, mode="tensor")
            for head in _auxiliary_heads(model):
                head(model.extract_feat(inputs))
    except _FoundError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


class _FoundError(Exception):
    """Ends the repeated pass."""


class _Finder:
    """Forward hook of one layer."""

    def __init__(self, name: str, found: list[str]) -> None:
        self.name, self.found = name, found

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for value in _tensors(output):
            if is_bad(value):
                before = " (its input is not finite either)" if any(map(is_bad, _tensors(inputs))) else ""
                self.found.append(f"{self.name} ({type(module).__name__}), with {describe(value)}{before}")
                raise _FoundError


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _auxiliary_heads(model: nn.Module) -> list[nn.Module]:
    heads = getattr(model, "auxiliary_head", None)
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads] if heads is not None else []
