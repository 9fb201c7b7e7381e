"""Costs of the classifier's step and of the rest of the network, on this processor and on a GPU of given speeds."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.cli.mmseg_config import read_config
from benchmarks._counting import OperationCounter
from benchmarks._pieces import BATCH, CLASSES, COMPONENTS, SIZE, pixels
from gmmseg.classifier import GMMClassifier
from gmmseg.settings import MixtureSettings


def classifier_step(gpu: dict[str, float]) -> dict[str, Any]:
    """Shortest seconds of the classifier's parts on this processor, and the load of its step on a GPU."""
    classifier = GMMClassifier(CLASSES, MixtureSettings(num_components=COMPONENTS, em_interval=1))
    features, labels = pixels(classifier, 0)
    kept: list[Tensor] = []

    def step(mark: Any = lambda: None) -> None:
        output = classifier(features)
        mark()
        loss = classifier.learn(output, labels) + F.cross_entropy(output.logits, labels)
        mark()
        loss.backward()
        mark()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    kept.clear()
    parts: list[list[float]] = []
    for _ in range(5):
        times = [time.perf_counter()]
        step(lambda times=times: times.append(time.perf_counter()))
        parts.append([after - before for before, after in pairwise(times)])
    seconds = dict(zip(("forward", "learn", "backward"), map(min, zip(*parts, strict=True)), strict=True))
    with OperationCounter(**gpu) as counter:
        step()
    return {"pixels": labels.numel(), "cpu_seconds": seconds, "kept_bytes": sum(storages.values()), **counter.counts()}


def network_step(config: Path, gpu: dict[str, float]) -> dict[str, float]:
    """Load of forward and backward pass of a config's softmax network on a GPU; nothing is computed."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    settings = read_config(config)
    init_default_scope("mmseg")
    network = revert_sync_batchnorm(MODELS.build(settings.model)).train().to("meta")
    images = torch.empty(BATCH, 3, SIZE, SIZE, device="meta")
    labels = torch.empty(BATCH, SIZE, SIZE, dtype=torch.long, device="meta")
    with OperationCounter(**gpu) as counter:
        logits = network(images, mode="tensor")
        F.cross_entropy(F.interpolate(logits, labels.shape[1:], mode="bilinear"), labels).backward()
    return {"parameters": sum(p.numel() for p in network.parameters()), **counter.counts()}
