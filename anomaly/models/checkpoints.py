"""Checkpoints of others: read safely, and refused where they do not fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.utils.shipped import find_shipped

_MEMORY = "classifier.em.memory."


def read_safely(path: str | Path) -> Any:
    """Read what ``torch.save`` wrote if it is tensors and plain containers, nothing that runs code.

    Args:
        path: The file, or one that comes with the package, such as ``checkpoints/NAME.pth``.

    Raises:
        InputError: No such file, cut short or not written by torch, or it needs other code to load.
    """
    path = find_shipped(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist, or is no file; give the path of a .pth file")
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its reader and unpickler meet
        asked_for = re.search(
            r"unsupported global:?(?: global)? ([\w.]+)|(reduce|new object|can only build)", str(error), re.IGNORECASE
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


def load_checkpoint_file(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that may come from anywhere: tensors and plain containers, nothing that runs code.

    Args:
        path: A file that ``torch.save`` wrote, with ``state_dict`` in it (as mmengine's) or being one.

    Returns:
        The checkpoint; ``["state_dict"]`` holds named tensors.

    Raises:
        InputError: No such file, cut short or no checkpoint, or it needs other code to load.
    """
    checkpoint = read_safely(path)
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
        whole: Refuse keys that are left over or missing, but for a memory that is not in the file: the network's stays
            as it is. Where this is off, heads may also differ in shape, as those of other classes do; their tensors
            are left out.

    Returns:
        Keys left over, missing or of another shape, each with the word; empty if ``whole``.

    Raises:
        InputError: The checkpoint is of another network.
    """
    model = getattr(model, "module", model)
    misshapen = [] if whole else _misshapen_heads(model, state_dict)
    state_dict = {key: value for key, value in state_dict.items() if key not in misshapen}
    try:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:  # torch lists the tensors of other shapes in its message
        misfits = [line.strip() for line in str(error).splitlines()[1:]]
        raise _of_another_network(source, misfits) from error
    missing = [key for key in missing if key not in misshapen and not _in_absent_memory(key, state_dict)]
    faults = [f"missing {key}" for key in missing]
    faults += [f"left over {key}" for key in unexpected] + [f"of another shape {key}" for key in misshapen]
    if faults and (whole or len(unexpected) == len(state_dict)):
        raise _of_another_network(source, faults)
    return faults


def _in_absent_memory(key: str, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether a key belongs to a memory of which the state dict has nothing at all: it may be left out of files."""
    head, memory, _ = key.rpartition(_MEMORY)
    return bool(memory) and not any(other.startswith(head + memory) for other in state_dict)


def _misshapen_heads(model: nn.Module, state_dict: dict[str, Tensor]) -> list[str]:
    """Keys of heads whose tensors have another shape; a memory is taken whole or not at all."""
    own = model.state_dict()
    keys = [key for key, value in state_dict.items() if key in own and own[key].shape != value.shape]
    keys = [key for key in keys if key.startswith(("decode_head", "auxiliary_head"))]
    memories = tuple(key.rpartition(_MEMORY)[0] + _MEMORY for key in keys if _MEMORY in key)
    return [key for key in state_dict if key in keys or (memories and key.startswith(memories))]


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


class _Array:
    """Stands in for a numpy array: from the file's own words one could be made that points anywhere in memory."""

    def __setstate__(self, state: object) -> None:
        """Forget the data."""


def _array(*_: object) -> _Array:
    """Stand in for numpy's rebuilding of an array."""
    return _Array()


class _DType:
    """Stands in for numpy's type of a plain number; any other is refused."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f2", "f4", "f8", "i4", "i8", "u1", "u4", "u8", "b1"):
            raise pickle.UnpicklingError(f"Unsupported global: numpy.dtype({code!r})")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take up the byte order."""
        if state[1] in ("<", ">"):
            self.code = state[1] + self.code


def _number(dtype: _DType, content: bytes) -> Any:
    """Read a number from its bytes, as a plain Python one."""
    return np.frombuffer(content, dtype.code)[0].item()


def _harmless_globals() -> list[Any]:
    """What mmengine's training checkpoints hold besides tensors: log histories and arrays, inert here, and numbers."""
    return [
        (_LogHistory, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_log_history_method, "builtins.getattr"),
        (_log_history_method, "__builtin__.getattr"),
        (_array, "numpy._core.multiarray._reconstruct"),
        (_array, "numpy.core.multiarray._reconstruct"),
        (_number, "numpy._core.multiarray.scalar"),
        (_number, "numpy.core.multiarray.scalar"),
        (_Array, "numpy.ndarray"),
        (_DType, "numpy.dtype"),
    ]
