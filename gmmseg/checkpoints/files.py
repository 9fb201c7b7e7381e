"""Checkpoints on disk: writing them whole or not at all, and finding the newest readable one.

They are written under a name with the suffix ``.part`` first. :func:`anomaly.utils.files.write_whole` does not fit: a
checkpoint is synchronised with the disk before it is renamed, and torch stores the name of the file inside it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

from anomaly.errors import InputError
from anomaly.models.checkpoints import load_checkpoint_file

PART = ".part"


def move_into_place(part: Path, target: Path) -> None:
    """Rename a written file to its final name, so that either the old or the new file is whole after a crash.

    Args:
        part: The written file, in the folder of ``target``.
        target: The final name, whose file is replaced.
    """
    for path, flags in ((part, os.O_RDWR), (target.parent, os.O_RDONLY)):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == part:
            os.replace(part, target)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        checkpoint: Tensors and plain containers.
        path: The file; its folder is made if it is missing.

    Raises:
        InputError: The file cannot be written.
    """
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, part)
        move_into_place(part, path)
    except (OSError, RuntimeError) as error:  # torch raises either
        with contextlib.suppress(OSError):
            part.unlink()
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} could not be written ({reason}); give another name as OUT") from error


def not_saved(path: Path, error: OSError) -> InputError:
    """Return the error for a checkpoint of a training that could not be written.

    Args:
        path: The checkpoint.
        error: The reason.
    """
    return InputError(
        f"checkpoint {path} could not be written ({error.strerror or error}); the one before it is intact. Free space "
        "on the disk, then continue with --resume"
    )


def is_resumable(checkpoint: dict[str, Any]) -> bool:
    """Return whether a checkpoint holds the state of a training, not only weights."""
    return {"epoch", "iter"} <= checkpoint.get("meta", {}).keys() and "optimizer" in checkpoint


def newest_checkpoint(folder: Path, logger: logging.Logger) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest checkpoint from which a training can be resumed.

    The file that mmengine noted as its last comes first, the others follow by modification time.

    Args:
        folder: The work dir.
        logger: Gets a warning for every file that cannot be read.

    Returns:
        Path and content of the checkpoint; ``None`` if there is none.

    Raises:
        InputError: There are checkpoints, and none of them can be read.
    """
    note = folder / "last_checkpoint"
    text = note.read_text().strip() if note.is_file() else ""  # empty if the disk was full
    found = set(folder.glob("*.pth"))
    named = folder / (Path(text).name or "none")  # not the path in the note: the work dir may be moved or copied
    if text and not found:  # checkpoints are written to another folder
        named = Path(text)
        found = set(named.parent.glob("*.pth"))
    found = {path for path in found if not path.name.startswith("best_")}  # these hold weights only
    faults = []
    for path in sorted(found, key=lambda path: (path == named, path.stat().st_mtime), reverse=True):
        try:
            checkpoint = load_checkpoint_file(path)
        except InputError as error:
            faults.append(str(error))
            logger.warning(f"{error}; trying the checkpoint before it")
            continue
        if is_resumable(checkpoint):
            return path, checkpoint
    if faults:
        raise InputError(f"no checkpoint in {folder} can be resumed: {faults[0]}")
    return None
