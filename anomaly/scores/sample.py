"""Pixels of training photographs with all that a network says of them, from which scores are fitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly.detectors import MAPS, Prediction
from anomaly.errors import InputError


@dataclass(frozen=True)
class PixelSample:
    """Labelled pixels, drawn evenly from each class of each photograph.

    Args:
        prediction: What the network says of them, as if they were a photograph of n rows and one column.
        labels: Their classes. Shape ``(n,)``, int64.
        weights: How many of the photographs' pixels each stands for. Shape ``(n,)``, float32.
        linear: Weight ``(C, D)`` and bias ``(C,)`` by which the network's last layer makes logits of features, where
            it has one.
    """

    prediction: Prediction
    labels: Tensor
    weights: Tensor
    linear: tuple[Tensor, Tensor] | None = None

    def rows(self, name: str) -> Tensor:
        """A field of the prediction with the pixels first, such as logits. Shape ``(n, C)``, float64."""
        found: Tensor = getattr(self.prediction, name)
        return found[0, ..., 0].movedim(-1, 0).double()

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self.prediction.logits.shape[1]


def draw_pixels(prediction: Prediction, labels: Tensor, most: int, generator: torch.Generator) -> PixelSample:
    """Draw at most so many pixels of each class of one photograph.

    Args:
        prediction: Of one photograph, at any resolution.
        labels: Class of every pixel at that resolution, -1 where there is none. Shape ``(h, w)``, int64.
        most: Pixels of a class.
        generator: Of the CPU.
    """
    labels = labels.flatten()
    chosen, weights = [], []
    for k in labels.unique().tolist():
        if k >= 0:
            places = (labels == k).nonzero().squeeze(1)
            drawn = places[torch.randperm(len(places), generator=generator)[:most]]
            chosen.append(drawn)
            weights.append(torch.full((len(drawn),), len(places) / len(drawn)))
    index = torch.cat(chosen) if chosen else labels[:0]
    picked = {
        name: maps.flatten(-2)[..., index.to(maps.device)][..., None].float().cpu()
        for name in MAPS
        if (maps := getattr(prediction, name)) is not None
    }
    mass = torch.cat(weights) if weights else torch.zeros(0)
    return PixelSample(Prediction(**{**vars(prediction), **picked}), labels[index], mass)


def join(samples: Iterable[PixelSample]) -> PixelSample:
    """Put samples of several photographs together.

    Raises:
        InputError: There is no pixel in them.
    """
    parts = [sample for sample in samples if len(sample.labels)]
    if not parts:
        raise InputError("expected labelled pixels in the training photographs, found none; give others")
    first = parts[0]
    maps = {
        name: torch.cat([getattr(part.prediction, name) for part in parts], dim=-2)
        for name in MAPS
        if getattr(first.prediction, name) is not None
    }
    labels, weights = (torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "weights"))
    return PixelSample(Prediction(**{**vars(first.prediction), **maps}), labels, weights, first.linear)
