"""mmengine's runner, with checkpoints read safely."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from gmmseg.checkpoints import load_checkpoint_file, load_weights
from gmmseg.errors import InputError


class SafeRunner(Runner):
    """A ``Runner`` that never runs code from a checkpoint, and resumes from a fitting one or not at all.

    mmengine's own falls back to unrestricted unpickling, runs the config text in a checkpoint as Python, and goes
    on in silence where tensors do not fit. ``load_from`` may lack or leave tensors, since it also serves to start
    from another network's weights; those are logged.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Give mmengine's logger, but its line for every parameter's learning rate goes to the log file alone."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not record.getMessage().startswith("paramwise_options"))
        return logger

    def load_checkpoint(self, filename: str, *_: Any, **__: Any) -> dict[str, Any]:
        """Load weights into the model, and give the rest of the checkpoint, free of what could run.

        Args:
            filename: A file on this machine.

        Raises:
            InputError: It cannot be read safely, is of another network, or, to resume, of no training.
        """
        checkpoint = load_checkpoint_file(Path(filename))
        meta = checkpoint.setdefault("meta", {})
        meta.pop("config", None)  # mmengine would run this text
        if "message_hub" in checkpoint:
            checkpoint["message_hub"]["log_scalars"] = {}  # objects, and of use to the log alone
        if self._resume and not {"epoch", "iter"} <= meta.keys():
            raise InputError(f"checkpoint {filename} holds weights but no state of a training; give it as load_from")
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        faults = load_weights(self.model, checkpoint["state_dict"], filename, whole=self._resume)
        if faults:
            self.logger.warning(f"{filename}: {len(faults)} tensors were not loaded: {', '.join(faults)}")
        self._has_loaded = True
        self.logger.info(f"Load checkpoint from {filename}")
        return checkpoint
