"""Saving during training: the checkpoint before is kept until the new one is whole."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from gmmseg.checkpoints.files import not_saved


class KeepingCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook, which here deletes an old checkpoint only after the new one is written.

    ``save_memory=False`` leaves out the memory of the mixtures. Files are smaller then, and a resumed training starts
    with a new memory.
    """

    keep_ckpt_ids: deque[int]
    last_ckpt: str

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        outdated = None
        if 0 < self.max_keep_ckpts == len(self.keep_ckpt_ids) and self.keep_ckpt_ids[-1] != step:
            outdated = self.keep_ckpt_ids.popleft()
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        except OSError as error:  # while writing the file last_checkpoint
            raise not_saved(Path(self.last_ckpt), error) from error
        if outdated is not None and is_main_process():
            old = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
            if self.file_backend.isfile(old):
                self.file_backend.remove(old)
