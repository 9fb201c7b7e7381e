"""Checkpoints on disk: written whole or not at all, and the newest that can be read is found again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from anomaly.errors import InputError
from anomaly.models.checkpoints import load_checkpoint_file

PART = ".part"


def move_into_place(part: Path, target: Path) -> None:
    """Put a written file in the place of another, so that a crash leaves one of them whole.

    Args:
        part: The file, in the folder of ``target``.
        target: The name it gets.
    """
    for path, flags in ((part, os.O_RDWR), (target.parent, os.O_RDONLY)):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == part:
            os.replace(part, target)


def not_saved(path: Path, error: OSError) -> InputError:
    """Say that a checkpoint could not be written, and what to do."""
    return InputError(
        f"checkpoint {path} could not be written ({error.strerror or error}); the one before it is intact: make room "
        "on that disk, then go on with --resume"
    )


def is_resumable(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint holds the state of a training, not the weights alone."""
    return {"epoch", "iter"} <= checkpoint.get("meta", {}).keys() and "optimizer" in checkpoint


def newest_checkpoint(folder: Path, logger: logging.Logger) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest checkpoint from which a training can go on: the one mmengine names as its last, then by age.

    Args:
        folder: The work dir.
        logger: Told of every file that cannot be read.

    Returns:
        Its path and content; ``None`` where there is no such checkpoint.

    Raises:
        InputError: There are some, and none can be read.
    """
    note = folder / "last_checkpoint"
    text = note.read_text().strip() if note.is_file() else ""  # empty where the disk was full
    found = set(folder.glob("*.pth"))
    named = folder / (Path(text).name or "none")  # not where the note says: the work dir may be moved, or a copy
    if text and not found:  # unless checkpoints go elsewhere
        named = Path(text)
        found = set(named.parent.glob("*.pth"))
    found = {path for path in found if not path.name.startswith("best_")}  # weights alone
    faults = []
    for path in sorted(found, key=lambda path: (path == named, path.stat().st_mtime), reverse=True):
        try:
            checkpoint = load_checkpoint_file(path)
        except InputError as error:
            faults.append(str(error))
            logger.warning(f"{error}; the checkpoint before it is tried")
            continue
        if is_resumable(checkpoint):
            return path, checkpoint
    if faults:
        raise InputError(f"nothing in {folder} can be resumed: {faults[0]}")
    return None
