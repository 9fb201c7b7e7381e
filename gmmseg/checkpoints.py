"""Checkpoints of others: read safely, and understood in the published GMMSeg layout."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gmmseg.errors import InputError

# Rebuilding an array or a number from its bytes runs no code of the file's; the module moved in numpy 2.
_reconstruct, _scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]

_PUBLISHED_NAMES = {
    "means": "classifier.mixture.means",
    "diagonal": "classifier.mixture.stds",
    "iteration_counter": "classifier.em.step",
    "queue": "classifier.em.memory.features",
    "queue_ptr": "classifier.em.memory.pointer",
    "feat_norm.weight": "classifier.embed_norm.weight",
    "feat_norm.bias": "classifier.embed_norm.bias",
    "mask_norm.weight": "classifier.class_norm.weight",
    "mask_norm.bias": "classifier.class_norm.bias",
}
_PUBLISHED_UNUSED = ("eye_matrix", "conv_seg.weight", "conv_seg.bias")


def rename_published_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rewrite a state dict in place from the published layout to ours; any other is left alone.

    Heads register this as a ``load_state_dict`` pre-hook, so that published checkpoints load by every way that
    mmengine and torch have. The published queue counts as full, as its own code counts it.

    Args:
        module: The head that loads (unused; part of torch's hook signature).
        state: The state dict that is being loaded.
        prefix: Where the head's keys start in it, such as ``"decode_head."``.

    Source: the checkpoint layout of github.com/leonnnop/GMMSeg.
    """
    if prefix + "diagonal" not in state:
        return
    for name in _PUBLISHED_UNUSED:
        state.pop(prefix + name, None)
    for name, ours in _PUBLISHED_NAMES.items():
        if prefix + name in state:
            state[prefix + ours] = state.pop(prefix + name)
    step = prefix + _PUBLISHED_NAMES["iteration_counter"]
    if step in state:
        state[step] = state[step].reshape(()).long()
    features = prefix + _PUBLISHED_NAMES["queue"]
    if features in state:
        memory = prefix + "classifier.em.memory."
        queue: Tensor = state[features].transpose(1, 2).contiguous()  # (G, D, M) -> (G, M, D)
        state[features] = queue
        state[memory + "count"] = torch.full((len(queue),), queue.shape[1])
        state[memory + "sums"] = queue.double().sum(1)
        state[memory + "square_sums"] = queue.double().square().sum(1)


def load_checkpoint_file(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that may come from anywhere: tensors and plain containers, nothing that runs code.

    Args:
        path: A file that ``torch.save`` wrote, with ``state_dict`` in it (as mmengine's) or being one.

    Returns:
        The checkpoint; ``["state_dict"]`` holds named tensors.

    Raises:
        InputError: No such file, cut short or no checkpoint, or it needs other code to load.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist, or is no file; give the path of a .pth file")
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its reader and unpickler meet
        asked_for = re.search(
            r"unsupported global:?(?: global)? ([\w.]+)|(reduce|new object) for", str(error), re.IGNORECASE
        )
        if asked_for:
            raise InputError(
                f"checkpoint {path} was refused: it asks for {asked_for[1] or 'a function call'}, and only tensors and "
                "plain containers are loaded, since anything else could run code; save its state_dict alone"
            ) from error
        raise InputError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); it is cut short or was not written by "
            "torch.save, so copy it again or give another"
        ) from error
    if isinstance(checkpoint, dict) and "state_dict" not in checkpoint:
        checkpoint = {"state_dict": checkpoint}
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"checkpoint {path} holds no state_dict of named tensors; give a segmentation checkpoint")
    return checkpoint


def load_weights(model: nn.Module, state_dict: dict[str, Tensor], source: str | Path, whole: bool = True) -> list[str]:
    """Load a state dict: every key of it, into every parameter and buffer of the model.

    Args:
        model: A network, or a data-parallel wrapper of one.
        state_dict: Named tensors, in our layout or the published one.
        source: Where they come from, for the message.
        whole: Refuse keys that are left over or missing. Where this is off, shapes still have to fit.

    Returns:
        Keys left over or missing, each with the word; empty if ``whole``.

    Raises:
        InputError: The checkpoint is of another network.
    """
    model = getattr(model, "module", model)
    try:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:  # torch lists the tensors of other shapes in its message
        misfits = [line.strip() for line in str(error).splitlines()[1:]]
        raise _of_another_network(source, misfits) from error
    faults = [f"missing {key}" for key in missing] + [f"left over {key}" for key in unexpected]
    if faults and (whole or len(unexpected) == len(state_dict)):
        raise _of_another_network(source, faults)
    return faults


def check_classes(checkpoint: dict[str, Any], classes: Sequence[str], source: str | Path) -> None:
    """Refuse a checkpoint that says it was trained on other classes, or on the same in another order.

    Args:
        checkpoint: As :func:`load_checkpoint_file` gives it; one that names no classes passes.
        classes: Names of the data's classes.
        source: Where it comes from, for the message.

    Raises:
        InputError: The names differ.
    """
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    trained = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES")
    if trained is not None and tuple(trained) != tuple(classes):
        raise InputError(
            f"checkpoint {source} was trained on the classes {', '.join(trained)}, and the config's data have "
            f"{', '.join(classes)}; give the config it was trained with"
        )


def _of_another_network(source: str | Path, faults: list[str]) -> InputError:
    return InputError(
        f"checkpoint {source} is of another network than the config: {len(faults)} of its tensors do not fit "
        f"({'; '.join(faults[:3])}{'; ...' if len(faults) > 3 else ''}); give the config it was trained with"
    )


class _LogHistory:
    """Stands in for the log histories in mmengine's training checkpoints, which nothing here reads."""


def _log_history_method(owner: object, name: str) -> None:
    """Stand in for the ``getattr`` by which log histories name their own statistics; any other use is refused."""
    if owner is not _LogHistory:
        raise pickle.UnpicklingError(f"Unsupported global: getattr({name!r})")


def _harmless_globals() -> list[Any]:
    """What mmengine's training checkpoints hold besides tensors: log histories (inert here) and numpy numbers."""
    numpy_types = {type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8", "u1", "u4", "u8", "?")}
    return [
        (_LogHistory, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_log_history_method, "builtins.getattr"),
        (_log_history_method, "__builtin__.getattr"),
        (_reconstruct, "numpy._core.multiarray._reconstruct"),
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        (_scalar, "numpy._core.multiarray.scalar"),
        (_scalar, "numpy.core.multiarray.scalar"),
        np.ndarray,
        np.dtype,
        *numpy_types,
    ]
