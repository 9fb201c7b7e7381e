"""mmengine's runner with checkpoints read safely and written whole, exact resume, and clear errors."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_distributed
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn

from anomaly.errors import InputError
from anomaly.models.checkpoints import load_checkpoint_file, load_weights
from anomaly.models.tiling import sliding_windows
from gmmseg.checkpoints.files import (
    PART,
    is_resumable,
    move_into_place,
    newest_checkpoint,
    not_saved,
)
from gmmseg.models import GMMHeadMixin, LikelihoodSegmentor
from gmmseg.training.checkpoint_hook import KeepingCheckpointHook
from gmmseg.training.initial_weights import initial_weights_read_safely
from gmmseg.training.random_stream import StepSeedHook, in_reproducible_stream
from gmmseg.training.training_guard_hook import (
    TrainingGuardHook,
    check_channels,
    check_class_count,
    decode_heads,
    unwrapped,
)
from gmmseg.training.training_state import em_keys, mean_gradients, pack, restore_gradients, share_em_state, unpack

NEWEST = "newest"

# Errors of mmengine and torch for a config that cannot be run, raised when they read the faulty part.
_SETUP_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Starts of log messages that go to the log file only: hundreds of lines before the first useful one.
_LOG_FILE_ONLY = (
    "paramwise_options",
    "Traceback",
    "Config:\n",
    "Hooks will be executed",
    "\n" + "-" * 60,
    "The prefix is not set in metric",
    '"FileClient" will be',
    '"HardDiskBackend" is',
    "Distributed training is not",
)


def _is_for_the_file(message: str) -> bool:
    # mmengine says the latter of every frozen parameter
    return message.startswith(_LOG_FILE_ONLY) or message.endswith("is skipped since its requires_grad=False")


class SafeRunner(Runner):
    """A ``Runner`` that resumes exactly or not at all, and never runs code from a checkpoint.

    A training that was killed and resumed continues with the same samples, augmentations, weights, mixtures and losses
    as an uninterrupted one (bit for bit on a CPU).

    ``resume="newest"`` resumes from the newest readable checkpoint of the work dir. ``resume=True`` resumes from
    ``load_from``, or from the newest checkpoint if ``load_from`` is not set. Without any checkpoint, training starts
    from the beginning. With ``load_from`` but without ``resume``, tensors may be missing or left over, so that the
    weights of another network can be used as a start; such tensors are logged.

    Several processes without a GPU communicate over gloo, and each uses its own batch statistics.
    """

    _train_dataloader: Any
    _load_from: str | None
    _resume: bool | str
    _has_loaded: bool
    _started = False  # whether the first step was reached
    _save_memory = True
    _gradients: dict[str, torch.Tensor]
    _chosen: tuple[str, dict[str, Any]] | None = None  # path and content of the checkpoint to resume from

    @classmethod
    def from_cfg(cls, cfg: Any) -> Runner:
        """Build a runner from a config.

        Raises:
            InputError: ``model.test_cfg`` is not valid; see :func:`anomaly.models.tiling.sliding_windows`.
        """
        model = cfg.get("model")
        if isinstance(model, dict):
            sliding_windows(model.get("test_cfg"))
        return super().from_cfg(cfg)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment as mmengine does, and connect processes over gloo if there is no GPU.

        Raises:
            InputError: ``--launcher`` needs GPUs, or needs to be started by torchrun.
        """
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            if self._launcher == "mpi":
                ours = {"RANK": "RANK", "WORLD_SIZE": "SIZE", "LOCAL_RANK": "LOCAL_RANK"}
                os.environ.update({name: os.environ[f"OMPI_COMM_WORLD_{theirs}"] for name, theirs in ours.items()})
                os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
                os.environ.setdefault("MASTER_PORT", "29500")
            elif self._launcher != "pytorch":
                raise InputError(
                    f"--launcher {self._launcher} needs GPUs, and torch finds none; use --launcher pytorch or mpi"
                )
            if "RANK" not in os.environ:
                raise InputError(
                    "--launcher pytorch needs processes that torchrun starts, and RANK is not set; start them by "
                    "tools/dist_train.sh"
                )
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)

    def build_model(self, model: Any) -> nn.Module:
        """Build the network.

        Raises:
            InputError: A generative decode head is in a segmentor that would discard its likelihoods, or a head expects
                other feature maps than the backbone gives.
        """
        network = super().build_model(model)
        check_channels(network)
        for head in decode_heads(network):
            if isinstance(head, GMMHeadMixin) and not isinstance(network, LikelihoodSegmentor):
                kind = "CascadeGMMSegmentor" if hasattr(network, "num_stages") else "GMMSegmentor"
                raise InputError(
                    f"{type(head).__name__} is generative, and {type(network).__name__} would discard its likelihoods; "
                    f"set model.type='gmmseg.{kind}'"
                )
        return network

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the network for several processes; without a GPU, batch norm is not synchronised.

        torch synchronises batch norm on GPUs only.
        """
        if self.distributed and not torch.cuda.is_available():
            if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()) or self.cfg.get("sync_bn"):
                self.logger.warning("SyncBN needs GPUs; without one, every process normalises its own batch")
                model = revert_sync_batchnorm(model)
                self.cfg.sync_bn = None
            find_unused = self.cfg.get("find_unused_parameters", False)
            default = {"broadcast_buffers": False, "find_unused_parameters": find_unused}
            model_wrapper_cfg = {**(model_wrapper_cfg or default), "device_ids": None}
        return super().wrap_model(model_wrapper_cfg, model)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger; environment, config, hooks and tracebacks go to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not _is_for_the_file(record.getMessage()))
        return logger

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register mmengine's default hooks, with seeding, safe checkpoints and a guard.

        ``guard=None`` leaves out :class:`gmmseg.training.training_guard_hook.TrainingGuardHook`.
        """
        hooks = {"checkpoint": {"type": "CheckpointHook", "interval": 1}, "guard": {}, **(hooks or {})}
        guard, checkpoint = hooks.pop("guard"), hooks["checkpoint"]
        if isinstance(checkpoint, dict) and checkpoint.get("type") == "CheckpointHook":
            hooks["checkpoint"] = {**checkpoint, "type": KeepingCheckpointHook}
        self.register_hook(StepSeedHook())
        if guard is not None:
            self.register_hook(TrainingGuardHook(**guard))
        super().register_default_hooks(hooks)

    def build_train_loop(self, loop: Any) -> Any:
        """Build the training loop, with samples that do not depend on workers or on earlier random numbers.

        Raises:
            InputError: The network and the data have different numbers of classes.
        """
        if isinstance(self._train_dataloader, dict):
            self._train_dataloader = in_reproducible_stream(self._train_dataloader, self.seed)
        return self._with_checked_classes(super().build_train_loop(loop), "train_dataloader")

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop.

        Raises:
            InputError: The network and the data have different numbers of classes.
        """
        return self._with_checked_classes(super().build_val_loop(loop), "val_dataloader")

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test loop.

        Raises:
            InputError: The network and the data have different numbers of classes.
        """
        return self._with_checked_classes(super().build_test_loop(loop), "test_dataloader")

    def _with_checked_classes(self, loop: Any, source: str) -> Any:
        metainfo = getattr(loop.dataloader.dataset, "metainfo", {})
        check_class_count(self.model, metainfo.get("classes"), source)
        return loop

    def train(self) -> nn.Module:
        """Train the network.

        Raises:
            InputError: Training cannot start: a setting is not valid, or the network, data and checkpoint do not fit
                each other. Also raised when the disk is full.
        """
        try:
            self._check_settings()
            self._choose_checkpoint()
            if self.rank == 0:
                for part in Path(self.work_dir).glob(f"*.pth{PART}"):  # left by an interrupted save
                    part.unlink()
            return super().train()
        except InputError as error:
            # The message of a worker's error includes its traceback.
            raise InputError(str(error).strip().splitlines()[-1].removeprefix("anomaly.errors.InputError: ")) from error
        except (*_SETUP_ERRORS, AssertionError) as error:
            if self._started and getattr(error, "errno", None) not in _DISK_FULL:
                raise
            self.logger.error("Traceback of the error that ended the training", exc_info=True)
            reason = (str(error).strip() or "no reason given").splitlines()[-1]
            name = self.cfg.filename or "this config"
            raise InputError(f"{name} cannot be trained: {type(error).__name__}: {reason}") from error

    def _check_settings(self) -> None:
        """Check settings that mmengine reads late, with errors that do not name them."""
        numbers = [("train_cfg", self._train_loop, name, 1) for name in ("max_iters", "max_epochs", "val_interval")]
        for loader in ("train_dataloader", "val_dataloader"):
            numbers += [(loader, getattr(self, f"_{loader}"), "batch_size", 1)]
            numbers += [(loader, getattr(self, f"_{loader}"), "num_workers", 0)]
        for part, settings, name, least in numbers:
            value = settings.get(name) if isinstance(settings, dict) else None
            if value is None or (isinstance(value, (int, float)) and value == value // 1 >= least):
                continue
            raise InputError(
                f"{part}.{name} must be a whole number of {least} or more, found {value!r}; correct it in the config"
            )

    def _choose_checkpoint(self) -> None:
        """Find the checkpoint to resume from, and set its seed before any sample is drawn."""
        if not self._resume or self._has_loaded or self._chosen is not None:
            return
        if self._resume == NEWEST or self._load_from is None:
            found = newest_checkpoint(Path(self.work_dir), self.logger)
            if found is None:
                self.logger.warning(
                    f"{self.work_dir} holds no checkpoint to resume from; training starts from the beginning"
                )
                self._resume = False
                return
            self._load_from, checkpoint = str(found[0]), found[1]
        else:
            checkpoint = load_checkpoint_file(self._load_from)
            if not is_resumable(checkpoint):
                raise InputError(
                    f"checkpoint {self._load_from} holds weights but no training state, so it cannot be resumed; start "
                    "from its weights instead: --cfg-options load_from=FILE"
                )
        self._resume, self._chosen = True, (self._load_from, checkpoint)
        seed = checkpoint["meta"].get("seed")
        if seed is not None and seed != self.seed:
            self.logger.warning(f"the seed {seed} of {self._load_from} is used, not {self.seed}")
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)

    def _init_model_weights(self) -> None:
        """Download and read the initial weights safely; a resumed training needs none."""
        if not self._resume:
            with initial_weights_read_safely():
                super()._init_model_weights()

    def load_or_resume(self) -> None:
        """Load a checkpoint or resume from it, and warn if no step is left to train."""
        self._choose_checkpoint()
        super().load_or_resume()
        if self._resume and self.iter >= self.max_iters:
            self.logger.warning(
                f"{self._load_from} was saved at step {self.iter} of {self.max_iters}; nothing is left to train"
            )

    def load_checkpoint(self, filename: str, *_: Any, **__: Any) -> dict[str, Any]:
        """Load weights into the model, and return the checkpoint without anything that mmengine would run as code.

        Args:
            filename: Path of a local file.

        Raises:
            InputError: The file cannot be read safely, or belongs to another network.
        """
        if self._chosen is not None and self._chosen[0] == filename:
            checkpoint, self._chosen = self._chosen[1], None
        else:
            checkpoint = load_checkpoint_file(filename)
        model, weights = unwrapped(self.model), checkpoint["state_dict"]
        checkpoint.setdefault("meta", {}).pop("config", None)  # mmengine would run this text
        unpack(checkpoint, model)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        faults = load_weights(model, weights, filename, whole=bool(self._resume))
        if faults:
            self.logger.warning(f"{filename}: {len(faults)} tensors were not loaded: {', '.join(faults)}")
        if self._resume:
            restore_gradients(checkpoint, model)
            if any(is_memory and key not in weights for key, is_memory in em_keys(model).items()):
                self.logger.warning(f"{filename} was saved without the memory of the mixtures; a new memory starts")
        self._has_loaded = True
        self.logger.info(f"Load checkpoint from {filename}")
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, save_memory: bool = True, **kwargs: Any) -> None:
        """Save a checkpoint, whole or not at all.

        Args:
            out_dir: Folder of the file, or a URL.
            filename: Name of the file.
            *args: Further arguments of mmengine's method.
            save_memory: Save the memory of the mixtures, if the optimizer's state is saved too.
            **kwargs: Further arguments of mmengine's method.

        Raises:
            InputError: The file cannot be written.
        """
        self._save_memory = save_memory
        self._gradients = mean_gradients(unwrapped(self.model))
        if "://" in str(out_dir):  # not a local folder
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path = Path(out_dir, filename)
        part = path.with_name(path.name + PART)
        try:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)
            if self.rank == 0:
                move_into_place(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise not_saved(path, error) from error

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks, then share the EM state with averaged weights or complete the checkpoint."""
        self._started = self._started or fn_name == "before_train_iter"
        super().call_hook(fn_name, **kwargs)
        if fn_name == "before_run":
            for hook in self.hooks:
                if isinstance(hook, EMAHook):
                    share_em_state(hook)
        elif fn_name == "before_save_checkpoint":
            pack(kwargs["checkpoint"], unwrapped(self.model), self._save_memory, self._gradients)
