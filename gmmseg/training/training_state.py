"""Parts of a checkpoint that mmengine does not save and an exact resume needs, and parts that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from mmengine.utils import apply_to
from torch import Tensor, nn

from gmmseg.em import EMUpdater
from gmmseg.functional.collectives import all_sum, num_processes

_LOGGED = 1000  # values kept of every logged scalar, far more than a log line averages over


def share_em_state(hook: EMAHook) -> None:
    """Let the averaged copy of a network share the EM state of the network, because memory and counters are no weights.

    The copy, which is evaluated, has averaged weights. Its mixtures are those of the network; with
    ``update_buffers=True`` they are averaged like any other buffer.

    Args:
        hook: mmengine's hook, after it has made the copy.
    """
    average = hook.ema_model
    shared = [(name, module) for name, module in hook.src_model.named_modules() if isinstance(module, EMUpdater)]
    for name, module in shared:
        parent, _, child = name.rpartition(".")
        setattr(average.module.get_submodule(parent), child, module)
        for key in [key for key in average.avg_parameters if key.startswith(f"{name}.")]:
            del average.avg_parameters[key]


def em_keys(model: nn.Module) -> dict[str, bool]:
    """List the EM state in the state dict of a network.

    Returns:
        Key of each entry, and whether it belongs to a memory.
    """
    updaters = [name for name, module in model.named_modules() if isinstance(module, EMUpdater)]
    memories = tuple(f"{name}.memory." for name in updaters)
    keys = [key for key in model.state_dict() if any(key.startswith(f"{name}.") for name in updaters)]
    return {key: key.startswith(memories) for key in keys}


def mean_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients accumulated so far, averaged over processes; call it on all of them.

    Every process can continue from this mean, because a step uses only the mean of all gradients.

    Args:
        model: The network, without a data-parallel wrapper.

    Returns:
        Gradients by the name of their parameter, on the CPU.
    """
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {name: (all_sum(gradient) / num_processes()).cpu() for name, gradient in gradients.items()}


def pack(checkpoint: dict[str, Any], model: nn.Module, save_memory: bool, gradients: dict[str, Tensor]) -> None:
    """Prepare a checkpoint for writing, in place, so that it holds only tensors and plain containers.

    Args:
        checkpoint: A checkpoint made by mmengine.
        model: The network in training.
        save_memory: Whether to keep the memory of the mixtures. A checkpoint without the optimizer's state never
            keeps it.
        gradients: Output of :func:`mean_gradients`.
    """
    in_training = "optimizer" in checkpoint
    for key, is_memory in em_keys(model).items():
        checkpoint.get("ema_state_dict", {}).pop(f"module.{key}", None)  # shared with the network itself
        if is_memory and not (in_training and save_memory):
            checkpoint["state_dict"].pop(key)
    if in_training:
        checkpoint["gradients"] = gradients
    for part in ("meta", "message_hub", "param_schedulers"):
        if part in checkpoint:
            checkpoint[part] = apply_to(checkpoint[part], lambda v: isinstance(v, np.generic), lambda v: v.item())
    scalars = checkpoint["message_hub"]["log_scalars"]
    for name, history in scalars.items():
        values, counts = (torch.from_numpy(part[-_LOGGED:].astype(float)) for part in history.data)
        scalars[name] = {"values": values, "counts": counts}


def unpack(checkpoint: dict[str, Any], model: nn.Module) -> None:
    """Undo the changes of :func:`pack`, in place, so that mmengine can read the checkpoint.

    Args:
        checkpoint: A checkpoint as it was read from its file.
        model: The network, without a data-parallel wrapper.
    """
    if "ema_state_dict" in checkpoint:
        for key in em_keys(model):
            if key in checkpoint["state_dict"]:
                checkpoint["ema_state_dict"].setdefault(f"module.{key}", checkpoint["state_dict"][key])
    hub = checkpoint.get("message_hub")
    if hub is not None:
        scalars = {name: _history(kept) for name, kept in hub["log_scalars"].items() if isinstance(kept, dict)}
        hub["log_scalars"] = scalars  # other entries are objects of mmengine that were not loaded; only logs use them
        known = {*scalars, *hub["runtime_info"]}
        hub["resumed_keys"] = {key: value for key, value in hub["resumed_keys"].items() if key in known}


def _history(kept: dict[str, Tensor]) -> HistoryBuffer:
    return HistoryBuffer(kept["values"].numpy(), kept["counts"].numpy())


def restore_gradients(checkpoint: dict[str, Any], model: nn.Module) -> None:
    """Restore the gradients that were accumulated when the checkpoint was written.

    Args:
        checkpoint: A checkpoint with the gradients of :func:`mean_gradients`; without them, gradients are cleared.
        model: The network, without a data-parallel wrapper.
    """
    for name, parameter in model.named_parameters():
        gradient = checkpoint.get("gradients", {}).get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter)
