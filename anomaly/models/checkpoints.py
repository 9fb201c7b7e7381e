"""Reading checkpoints safely, and checking that they fit the network."""

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
    """Read a file written by ``torch.save`` without running code: tensors and plain containers only.

    Args:
        path: The file, or one that is shipped with the package, such as ``checkpoints/NAME.pth``.

    Raises:
        InputError: The file is missing, truncated or not written by torch, or it needs other code to load.
    """
    path = find_shipped(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the path of a .pth file")
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch passes on any error of its reader and unpickler
        asked_for = re.search(
            r"unsupported global:?(?: global)? ([\w.]+)|(reduce|new object|can only build)", str(error), re.IGNORECASE
        )
        if asked_for:
            raise InputError(
                f"checkpoint {path} was refused: expected only tensors and plain containers, found "
                f"{asked_for[1] or 'a function call'}, which could run code; save only its state_dict"
            ) from error
        raise InputError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is truncated or was not written by "
            "torch.save; copy it again or use another"
        ) from error


def load_checkpoint_file(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of any origin without running code: tensors and plain containers only.

    Args:
        path: A file written by ``torch.save`` that is a state dict, or has one under ``state_dict`` (as mmengine writes
            it).

    Returns:
        The checkpoint; ``["state_dict"]`` holds named tensors.

    Raises:
        InputError: The file is missing, truncated or no checkpoint, or it needs other code to load.
    """
    checkpoint = read_safely(path)
    if isinstance(checkpoint, dict) and "state_dict" not in checkpoint:
        checkpoint = {"state_dict": checkpoint}
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"checkpoint {path}: expected a state_dict of named tensors, found none; use a segmentation checkpoint"
        )
    return checkpoint


def load_weights(model: nn.Module, state_dict: dict[str, Tensor], source: str | Path, whole: bool = True) -> list[str]:
    """Load a state dict into a network: every key, into every parameter and buffer.

    Args:
        model: A network, or a data-parallel wrapper of one.
        state_dict: Named tensors, in the layout of this package or the published one.
        source: Origin of the tensors, for the message.
        whole: Refuse unexpected and missing keys. A feature memory may be missing from the file as a whole; the
            network's own memory is kept then. If False, tensors of heads may also differ in shape, as with other
            classes; they are not loaded.

    Returns:
        The unexpected, missing and misshapen keys, each with a word that says which it is; empty if ``whole``.

    Raises:
        InputError: The checkpoint belongs to another network.
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
    """Whether a key belongs to a feature memory that the state dict lacks as a whole, which is allowed."""
    head, memory, _ = key.rpartition(_MEMORY)
    return bool(memory) and not any(other.startswith(head + memory) for other in state_dict)


def _misshapen_heads(model: nn.Module, state_dict: dict[str, Tensor]) -> list[str]:
    """Keys of heads whose tensors have another shape; a memory is loaded completely or not at all."""
    own = model.state_dict()
    keys = [key for key, value in state_dict.items() if key in own and own[key].shape != value.shape]
    keys = [key for key in keys if key.startswith(("decode_head", "auxiliary_head"))]
    memories = tuple(key.rpartition(_MEMORY)[0] + _MEMORY for key in keys if _MEMORY in key)
    return [key for key in state_dict if key in keys or (memories and key.startswith(memories))]


def check_classes(checkpoint: dict[str, Any], classes: Sequence[str], source: str | Path) -> None:
    """Refuse a checkpoint that was trained on other classes, or on the same classes in another order.

    Args:
        checkpoint: A checkpoint from :func:`load_checkpoint_file`. One that names no classes passes.
        classes: Names of the classes of the data.
        source: Origin of the checkpoint, for the message.

    Raises:
        InputError: The names differ.
    """
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    trained = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES")
    if trained is not None and tuple(trained) != tuple(classes):
        raise InputError(
            f"checkpoint {source} was trained on the classes {', '.join(trained)}, but the config's data have "
            f"{', '.join(classes)}; use the config it was trained with"
        )


def _of_another_network(source: str | Path, faults: list[str]) -> InputError:
    return InputError(
        f"checkpoint {source} belongs to another network than the config: {len(faults)} of its tensors do not fit "
        f"({'; '.join(faults[:3])}{'; ...' if len(faults) > 3 else ''}); use the config it was trained with"
    )


class _LogHistory:
    """Placeholder for the log histories in mmengine's training checkpoints, which are not used."""


def _log_history_method(owner: object, name: str) -> None:
    """Placeholder for the ``getattr`` call by which log histories name their statistics; any other use is refused."""
    if owner is not _LogHistory:
        raise pickle.UnpicklingError(f"Unsupported global: getattr({name!r})")


class _Array:
    """Placeholder for a numpy array: a crafted file could make one that points anywhere in memory."""

    def __setstate__(self, state: object) -> None:
        """Discard the data."""


def _array(*_: object) -> _Array:
    """Placeholder for numpy's function that rebuilds an array."""
    return _Array()


class _DType:
    """Placeholder for the numpy dtype of a plain number; any other is refused."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f2", "f4", "f8", "i4", "i8", "u1", "u4", "u8", "b1"):
            raise pickle.UnpicklingError(f"Unsupported global: numpy.dtype({code!r})")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Restore the byte order."""
        if state[1] in ("<", ">"):
            self.code = state[1] + self.code


def _number(dtype: _DType, content: bytes) -> Any:
    """Read a number from its bytes as a Python number."""
    return np.frombuffer(content, dtype.code)[0].item()


def _harmless_globals() -> list[Any]:
    """Classes that mmengine's training checkpoints use besides tensors: inert log histories and arrays, and numbers."""
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
