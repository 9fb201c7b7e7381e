"""What a checkpoint holds beside mmengine's own, so that a training goes on exactly; and what it need not hold."""

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

_LOGGED = 1000  # values of every logged scalar that are kept: far more than a log line averages over


def share_em_state(hook: EMAHook) -> None:
    """Give the averaged copy of a network the live EM state: memory and counters are no weights to average.

    The copy that is evaluated has averaged weights. Its mixtures are the live ones too, or, with
    ``update_buffers=True``, averaged like any other buffer.

    Args:
        hook: mmengine's hook, once it has made its copy.
    """
    average = hook.ema_model
    shared = [(name, module) for name, module in hook.src_model.named_modules() if isinstance(module, EMUpdater)]
    for name, module in shared:
        parent, _, child = name.rpartition(".")
        setattr(average.module.get_submodule(parent), child, module)
        for key in [key for key in average.avg_parameters if key.startswith(f"{name}.")]:
            del average.avg_parameters[key]


def em_keys(model: nn.Module) -> dict[str, bool]:
    """Name the EM state in a network's state dict; whether each is of a memory."""
    updaters = [name for name, module in model.named_modules() if isinstance(module, EMUpdater)]
    memories = tuple(f"{name}.memory." for name in updaters)
    keys = [key for key in model.state_dict() if any(key.startswith(f"{name}.") for name in updaters)]
    return {key: key.startswith(memories) for key in keys}


def mean_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Give the gradients that are being accumulated, as their mean over processes; to be called on all of them.

    Every process may go on from the mean: the mean of all their gradients, in which each step ends, is the same.

    Args:
        model: The network, without a data-parallel wrapper.
    """
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {name: (all_sum(gradient) / num_processes()).cpu() for name, gradient in gradients.items()}


def pack(checkpoint: dict[str, Any], model: nn.Module, save_memory: bool, gradients: dict[str, Tensor]) -> None:
    """Complete a checkpoint in place before it is written, in tensors and plain containers.

    Args:
        checkpoint: As mmengine made it.
        model: The network that trains.
        save_memory: Whether the mixtures' memory is kept; only a checkpoint with the optimizer's state needs it.
        gradients: As :func:`mean_gradients` gives them.
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
    """Undo in place, before mmengine reads a checkpoint, what :func:`pack` changed of it."""
    if "ema_state_dict" in checkpoint:
        for key in em_keys(model):
            if key in checkpoint["state_dict"]:
                checkpoint["ema_state_dict"].setdefault(f"module.{key}", checkpoint["state_dict"][key])
    hub = checkpoint.get("message_hub")
    if hub is not None:
        scalars = {name: _history(kept) for name, kept in hub["log_scalars"].items() if isinstance(kept, dict)}
        hub["log_scalars"] = scalars  # mmengine's own objects are inert here, and of use to the log alone
        known = {*scalars, *hub["runtime_info"]}
        hub["resumed_keys"] = {key: value for key, value in hub["resumed_keys"].items() if key in known}


def _history(kept: dict[str, Tensor]) -> HistoryBuffer:
    return HistoryBuffer(kept["values"].numpy(), kept["counts"].numpy())


def restore_gradients(checkpoint: dict[str, Any], model: nn.Module) -> None:
    """Put the gradients back that were being accumulated when the checkpoint was written."""
    for name, parameter in model.named_parameters():
        gradient = checkpoint.get("gradients", {}).get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter)
