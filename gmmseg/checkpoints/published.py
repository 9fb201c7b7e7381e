"""Conversion of checkpoints from the layout of the published GMMSeg code to that of this project.

Source: github.com/leonnnop/GMMSeg.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anomaly.errors import InputError
from gmmseg.memory import block_size

_PUBLISHED_NAMES = {
    "means": "classifier.mixture.means",
    "diagonal": "classifier.mixture.stds",
    "iteration_counter": "classifier.em.step",
    "feat_norm.weight": "classifier.embed_norm.weight",
    "feat_norm.bias": "classifier.embed_norm.bias",
    "mask_norm.weight": "classifier.class_norm.weight",
    "mask_norm.bias": "classifier.class_norm.bias",
}
_PUBLISHED_UNUSED = {
    "eye_matrix": "a constant",
    "conv_seg.weight": "never used by a generative head",
    "conv_seg.bias": "never used by a generative head",
}
_MEMORY = "classifier.em.memory."
_SEGMENTOR_PARTS = ("backbone", "neck", "decode_head", "auxiliary_head")


@dataclass
class KeyReport:
    """How the keys of a published state dict were converted; keys not named here are unchanged.

    Attributes:
        mapped: Published key to the new key.
        dropped: Published key to the reason why it was dropped.
        absent: Published key that the file lacks, and may lack, to the consequence.
        missing: New keys that the network needs and the file has no tensor for.
        left_over: Keys that the network does not read, or whose shape differs from that of the network (with both
            shapes).
    """

    mapped: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)


def convert_published(
    checkpoint: Mapping[str, Any], source: str | Path, model: nn.Module | None = None
) -> tuple[dict[str, Any], KeyReport]:
    """Convert a checkpoint from the published layout to the layout of this project.

    Args:
        checkpoint: A published checkpoint with a ``state_dict``. Of its ``meta``, classes and palette are kept.
        source: Its file, for messages.
        model: The network that is to load the result, to check every key against. Without it, keys outside the
            generative head are not checked, except that top-level names unknown to mmseg count as left over.

    Returns:
        The new checkpoint, and a report of all keys.

    Raises:
        InputError: The file holds no published head, or ``model`` has no generative head, or one with other classes.
    """
    state, report = dict(checkpoint["state_dict"]), KeyReport()
    meta = checkpoint.get("meta")
    dataset = (
        {key.lower(): meta[key] for key in ("CLASSES", "PALETTE") if key in meta} if isinstance(meta, dict) else {}
    )
    converted = {"state_dict": state, "meta": {"dataset_meta": dataset}}
    heads = [key.removesuffix("diagonal") for key in state if key.split(".")[-1] == "diagonal"]
    if not heads:
        raise InputError(
            f"{source} is not in the published GMMSeg layout: expected a key such as decode_head.diagonal, found none; "
            "checkpoints of mmseg and of this project need no conversion"
        )
    for prefix in heads:
        size, most_blocks = None, 1000
        if model is not None:
            size, most_blocks = _memory_settings(model, prefix, state[prefix + "diagonal"], source)
        _convert_head(state, prefix, report, size, most_blocks)
    if model is None:
        report.left_over += [key for key in state if key.split(".")[0] not in _SEGMENTOR_PARTS and "" not in heads]
        return converted, report
    own = {key: value.shape for key, value in model.state_dict().items()}
    report.missing = [key for key in own if key not in state and _MEMORY not in key]
    report.left_over = [key for key in state if key not in own]
    report.left_over += [
        f"{key} {tuple(value.shape)} for {tuple(own[key])}"
        for key, value in state.items()
        if key in own and own[key] != value.shape
    ]
    return converted, report


def _memory_settings(model: nn.Module, prefix: str, stds: Tensor, source: str | Path) -> tuple[int, int]:
    """Return memory size and largest number of blocks of the model's head, after checking its number of classes."""
    try:
        classifier: Any = model.get_submodule(prefix + "classifier")
    except AttributeError as error:
        raise InputError(
            f"{source} has a generative head {prefix.rstrip('.')}, and the config has none; give a GMMSeg config"
        ) from error
    classes = len(classifier.mixture.stds)
    if classes != len(stds):
        raise InputError(
            f"{source} has {len(stds)} classes, and the config has {classes}; give the config of this network"
        )
    return classifier.settings.memory_size, classifier.settings.memory_blocks


def _convert_head(
    state: dict[str, Any], prefix: str, report: KeyReport, memory_size: int | None, most_blocks: int
) -> None:
    """Convert the keys of one head in a state dict, in place.

    A published queue counts as full, as in the published code. It becomes moments of blocks of features (see
    :class:`gmmseg.memory.FeatureMemory`). A file may lack the queue; the memory then starts empty or random, as
    configured.

    Args:
        state: The state dict.
        prefix: Prefix of the head's keys, such as ``"decode_head."``.
        report: Gets an entry for each key.
        memory_size: M of the network that is to load the result; a queue of another size is dropped. ``None`` accepts
            any size.
        most_blocks: The setting ``memory_blocks`` of the network.
    """
    for name, reason in _PUBLISHED_UNUSED.items():
        if state.pop(prefix + name, None) is not None:
            report.dropped[prefix + name] = reason
    for name, ours in _PUBLISHED_NAMES.items():
        if prefix + name in state:
            state[prefix + ours] = state.pop(prefix + name)
            report.mapped[prefix + name] = prefix + ours
        else:
            report.missing.append(prefix + ours)
    step = prefix + _PUBLISHED_NAMES["iteration_counter"]
    if step in state:
        state[step] = state[step].reshape(()).long()
    queue, pointer = state.pop(prefix + "queue", None), state.pop(prefix + "queue_ptr", None)
    if queue is None:
        report.absent[prefix + "queue"] = "a new memory starts"
        if pointer is not None:
            report.dropped[prefix + "queue_ptr"] = "the file has no queue"
    elif memory_size not in (None, queue.shape[2]):
        reason = f"holds {queue.shape[2]} features per component, the memory of the config {memory_size}"
        report.dropped |= {prefix + "queue": reason, prefix + "queue_ptr": reason}
    else:
        memory = _memory_of_queue(queue, pointer, most_blocks)
        state.update({prefix + _MEMORY + name: value for name, value in memory.items()})
        report.mapped |= {prefix + "queue": prefix + _MEMORY + "{blocks,sums,square_sums}"}
        report.mapped |= {prefix + "queue_ptr": prefix + _MEMORY + "pushed"}
    published = {name.split(".")[0] for name in (*_PUBLISHED_NAMES, *_PUBLISHED_UNUSED)}
    rest = {key: key.removeprefix(prefix) for key in state if key.startswith(prefix)}
    report.left_over += [key for key, name in rest.items() if "." not in name or name.split(".")[0] in published]


def _memory_of_queue(queue: Tensor, pointer: Tensor | None, most_blocks: int) -> dict[str, Tensor]:
    """Compute the buffers of a memory from a full queue ``(G, D, M)`` and its next slots ``pointer (G,)``."""
    groups, dim, size = queue.shape
    block = block_size(size, most_blocks)
    blocks = torch.empty(groups, size // block, 2, dim)
    slot, at = torch.arange(size), (torch.zeros(groups) if pointer is None else pointer).long()[:, None]
    forgotten = (slot >= at) & (slot < -(-at // block) * block)  # the rest of a block that is partly overwritten
    for moments, features, old in zip(blocks, queue, forgotten, strict=True):  # one at a time: queues take gigabytes
        features = features.float().masked_fill(old, 0).reshape(dim, -1, block)
        moments[:, 0], moments[:, 1] = features.sum(2).T, features.square().sum(2).T
    sums, square_sums = blocks.double().sum(1).unbind(1)
    pushed = torch.full((groups,), size) + (0 if pointer is None else pointer.long())
    return {"blocks": blocks, "sums": sums.contiguous(), "square_sums": square_sums.contiguous(), "pushed": pushed}


def rename_published_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Convert a state dict from the published layout in place; a state dict in any other layout is unchanged.

    Heads register this function as a ``load_state_dict`` pre-hook, so that mmengine and torch load published
    checkpoints directly. If the state dict has no queue, or one of another size, the memory of the head is kept.

    Args:
        module: The head that loads.
        state: The state dict to load.
        prefix: Prefix of the head's keys, such as ``"decode_head."``.
    """
    if prefix + "diagonal" not in state:
        return
    em: Any = module.get_submodule("classifier.em")
    report = KeyReport()
    _convert_head(state, prefix, report, em.memory.size, em.settings.memory_blocks)
    if prefix + "queue" in report.dropped:
        warnings.warn(f"{prefix}queue {report.dropped[prefix + 'queue']}; the memory is not loaded", stacklevel=2)
    for name, buffer in em.memory.named_buffers():
        state.setdefault(prefix + _MEMORY + name, buffer)
