"""A hook that logs the state of the mixtures during training."""

from __future__ import annotations

import json
import math
from collections import deque
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook, LoggerHook
from torch import Tensor

from anomaly.errors import InputError
from gmmseg.classifier import GMMClassifier
from gmmseg.registry import HOOKS


@HOOKS.register_module()
class MixtureMonitorHook(Hook):
    """Logs the state of every mixture in the network, and writes the state of its components to a file.

    These values appear in mmengine's log, next to the losses:

    - ``mixture/fill_min`` and ``mixture/fill_mean``: filled share of the memories.
    - ``mixture/share_min``: smallest share of a component in the pixels of its class.
    - ``mixture/dead``: number of components with a share below ``dead_share``.
    - ``mixture/std_min``: smallest standard deviation.
    - ``mixture/log_likelihood``: mean class log-likelihood of the labelled pixels in the last step's batch.

    Shares count the assignments of the last ``window`` steps. A class with fewer than P / ``dead_share`` pixels in
    the window is left out. ``share_min`` is NaN if all classes are left out, and ``log_likelihood`` if the batch has
    no labelled pixel.

    ``mixture.jsonl`` in the work dir gets one JSON object for each logged step. It holds these values and, as lists
    of C lists of P numbers, ``remembered`` (features in the memory), ``assigned`` (pixels in the window) and ``std``
    (smallest standard deviation of the component). A resumed training appends to the file and starts a new window.

    A network with several generative heads logs each under ``mixture/<name of the head>/``. With several processes,
    the values cover the pixels of all of them.

    Args:
        interval: Steps between two records; by default that of the ``LoggerHook``.
        window: Steps over which assignments are counted, rounded up to a multiple of ``interval``.
        dead_share: Share of its class's pixels below which a component counts as dead, in (0, 1).

    Raises:
        InputError: An argument is out of range.
    """

    priority = "NORMAL"  # before the LoggerHook

    def __init__(self, interval: int | None = None, window: int = 500, dead_share: float = 0.01) -> None:
        if (interval is not None and interval < 1) or window < 1 or not 0 < dead_share < 1:
            raise InputError(
                "MixtureMonitorHook: expected interval and window of at least 1 and dead_share in (0, 1), found "
                f"interval={interval}, window={window}, dead_share={dead_share}; correct it under custom_hooks"
            )
        self.interval, self.window, self.dead_share = interval, window, dead_share
        self._watches: dict[str, _Watch] = {}

    def before_train(self, runner: Any) -> None:
        """Find the generative classifiers and start counting their assignments."""
        found = {name: m for name, m in runner.model.named_modules() if isinstance(m, GMMClassifier)}
        if not found:
            runner.logger.warning("MixtureMonitorHook: the network has no mixture, so nothing is logged")
            return
        if self.interval is None:
            self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)
        for name, classifier in found.items():
            head = name.removeprefix("module.").removesuffix(".classifier")
            tag = "mixture" if len(found) == 1 else f"mixture/{head}"
            self._watches[tag] = _Watch(classifier, math.ceil(self.window / self.interval))
        self._file = Path(runner.work_dir, "mixture.jsonl")
        if runner.iter == 0 and is_main_process():
            self._file.unlink(missing_ok=True)  # left by an earlier training

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Log the values and append them to the file, every ``interval`` steps."""
        if not self._watches or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for tag, watch in self._watches.items():
            scalars, components = watch.read(self.dead_share)
            for key, value in scalars.items():
                runner.message_hub.update_scalar(f"train/{tag}/{key}", value)
            if is_main_process():
                finite = {key: value if math.isfinite(value) else None for key, value in scalars.items()}
                with self._file.open("a") as file:  # JSON has no NaN
                    file.write(json.dumps({"step": runner.iter + 1, "name": tag, **finite, **components}) + "\n")

    def after_train(self, runner: Any) -> None:
        """Stop counting assignments."""
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()


class _Watch:
    """Counts the assignments of a classifier's E-step."""

    def __init__(self, classifier: GMMClassifier, intervals: int) -> None:
        self.classifier = classifier
        self.assigned = self._nothing()
        self.past: deque[Tensor] = deque(maxlen=intervals)
        self.likelihood = self.assigned.new_full((2,), math.nan, dtype=torch.float64)  # sum, pixels
        classifier.em.listeners.append(self.count)

    def _nothing(self) -> Tensor:
        stds = self.classifier.mixture.stds
        return torch.zeros(stds.shape[:2], dtype=torch.long, device=stds.device)

    def count(self, log_likelihood: Tensor, groups: Tensor) -> None:
        """Count one E-step, without synchronising with a GPU."""
        self.assigned.view(-1).index_add_(0, groups, torch.ones_like(groups))
        self.likelihood[0] = log_likelihood.double().sum()
        self.likelihood[1].fill_(len(groups))

    def stop(self) -> None:
        """Stop counting."""
        self.classifier.em.listeners.remove(self.count)

    def read(self, dead_share: float) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the values and the lists per component, and start the next interval."""
        likelihood = self.likelihood.clone()
        all_reduce(self.assigned)
        all_reduce(likelihood)
        self.past.append(self.assigned)
        self.assigned = self._nothing()
        counts = torch.stack(tuple(self.past)).sum(0)  # (C, P)
        pixels = counts.sum(1)
        share = (counts / pixels[:, None])[pixels >= counts.shape[1] / dead_share]
        memory = self.classifier.em.memory
        fill = memory.count.double() / memory.size
        std = self.classifier.mixture.stds.amin(2)
        scalars = {
            "fill_min": float(fill.min()),
            "fill_mean": float(fill.mean()),
            "share_min": float(share.min()) if len(share) else math.nan,
            "dead": int((share < dead_share).sum()),
            "std_min": float(std.min()),
            "log_likelihood": float(likelihood[0] / likelihood[1]),
        }
        components = {
            "remembered": memory.count.view_as(counts).tolist(),
            "assigned": counts.tolist(),
            "std": std.double().round(decimals=6).tolist(),
        }
        return scalars, components
