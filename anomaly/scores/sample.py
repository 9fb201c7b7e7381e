"""Pixels of training images with all that a network says of them, from which scores are fitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.models.base import MAPS, Prediction


@dataclass(frozen=True)
class PixelSample:
    """Labelled pixels, drawn evenly from each class of each image.

    Args:
        prediction: What the network says of them, as if they were an image of n rows and one column.
        labels: Their classes. Shape ``(n,)``, int64.
        weights: How many of the images' pixels each stands for. Shape ``(n,)``, float32.
        linear: Weight ``(C, D)`` and bias ``(C,)`` by which the network's last layer makes logits of features, where
            it has one.

    Raises:
        InputError: A label is no class, or a weight not a finite number above 0.
    """

    prediction: Prediction
    labels: Tensor
    weights: Tensor
    linear: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        count, classes = self.prediction.field("logits").shape[-2], self.classes
        labels, weights = self.labels, self.weights
        if labels.shape != (count,) or labels.dtype != torch.int64 or not ((labels >= 0) & (labels < classes)).all():
            found = f"{labels.dtype} of shape {tuple(labels.shape)} with the values {labels.unique().tolist()[:8]}"
            raise InputError(
                f"pixel sample: expected int64 labels from 0 to {classes - 1}, of shape ({count},), found {found}; "
                "leave out pixels without a class"
            )
        if weights.shape != (count,) or not ((weights > 0) & weights.isfinite()).all():
            raise InputError(f"pixel sample: expected finite weights above 0, of shape ({count},), found others")

    def rows(self, name: str) -> Tensor:
        """A field of the prediction with the pixels first, such as logits. Shape ``(n, C)``, float64."""
        found = self.prediction.field(name)
        return found[0, ..., 0].movedim(-1, 0).double()

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self.prediction.field("logits").shape[1]


def draw_pixels(views: Sequence[tuple[Prediction, Tensor]], most: int, generator: torch.Generator) -> list[PixelSample]:
    """Draw pixels of one image, as many of each class that occurs.

    Where classes are more than pixels, some are drawn, and stand for all.

    Args:
        views: What a network says of each part of the image, at any resolution; and the class of every pixel
            there, -1 where there is none, or where another part has the pixel. Shape ``(h, w)``, int64.
        most: Pixels in all.
        generator: Of the CPU.

    Returns:
        Those of each view.
    """
    labels = torch.cat([classes.flatten() for _, classes in views])
    present = labels[labels >= 0].unique()
    kept = present[torch.randperm(len(present), generator=generator)[:most]].sort().values
    weights = torch.zeros(len(labels))
    for k in kept.tolist():
        places = (labels == k).nonzero().squeeze(1)
        drawn = places[torch.randperm(len(places), generator=generator)[: most // len(kept)]]
        weights[drawn] = len(places) / len(drawn) * len(present) / len(kept)
    parts = weights.split([classes.numel() for _, classes in views])
    return [_picked(*view, part) for view, part in zip(views, parts, strict=True)]


def _picked(prediction: Prediction, labels: Tensor, weights: Tensor) -> PixelSample:
    """The pixels whose weight is above 0."""
    index = weights.nonzero().squeeze(1)
    picked = {
        name: maps.flatten(-2)[..., index.to(maps.device)][..., None].float().cpu()
        for name in MAPS
        if (maps := getattr(prediction, name)) is not None
    }
    return PixelSample(Prediction(**{**vars(prediction), **picked}), labels.flatten()[index], weights[index])


def join(samples: Iterable[PixelSample]) -> PixelSample:
    """Put samples of several images together.

    Raises:
        InputError: There is no pixel in them.
    """
    parts = [sample for sample in samples if len(sample.labels)]
    if not parts:
        raise InputError("expected labelled pixels in the training images, found none; give others")
    first = parts[0]
    maps = {
        name: torch.cat([getattr(part.prediction, name) for part in parts], dim=-2)
        for name in MAPS
        if getattr(first.prediction, name) is not None
    }
    labels, weights = (torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "weights"))
    return PixelSample(Prediction(**{**vars(first.prediction), **maps}), labels, weights, first.linear)
