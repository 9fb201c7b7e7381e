"""The classifier of ADE20K at full size: its state, synthetic pixels, and the exchange between processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks._counting import nbytes
from gmmseg.classifier import GMMClassifier
from gmmseg.settings import MixtureSettings

CLASSES, COMPONENTS, BATCH, SIZE = 150, 8, 2, 512


def state_bytes(classes: int, components: int, folder: Path) -> dict[str, float]:
    """Bytes of a classifier's buffers and file, and of the queue in the published code."""
    classifier = GMMClassifier(classes, MixtureSettings(num_components=components))
    torch.save(classifier.state_dict(), folder / "state.pth")
    settings = classifier.settings
    return {
        "components": classes * components,
        "mixture_bytes": nbytes(dict(classifier.mixture.named_buffers())),
        "memory_bytes": nbytes(dict(classifier.em.memory.named_buffers())),
        "file_bytes": (folder / "state.pth").stat().st_size,
        "published_queue_bytes": classes * components * settings.embed_dim * settings.memory_size * 4,
    }


def pixels(classifier: GMMClassifier, seed: int) -> tuple[Tensor, Tensor]:
    """Feature maps near the components of their classes, at most 10 classes an image, and the labels."""
    torch.manual_seed(seed)
    squares = torch.rand(BATCH, CLASSES).topk(10).indices.gather(1, torch.randint(0, 10, (BATCH, 64))).view(-1, 8, 8)
    labels = squares.repeat_interleave(SIZE // 32, 1).repeat_interleave(SIZE // 32, 2)
    features = classifier.mixture.means[labels, torch.randint(0, COMPONENTS, labels.shape)]
    return (features + 0.05 * torch.randn_like(features)).permute(0, 3, 1, 2).requires_grad_(), labels


def learn(rank: int) -> None:
    """The part of a step that exchanges data; the amount does not depend on the size of the memory."""
    torch.manual_seed(0)
    classifier = GMMClassifier(CLASSES, MixtureSettings(num_components=COMPONENTS, memory_size=40))
    features, labels = pixels(classifier, rank)
    classifier.learn(classifier(features), labels)
