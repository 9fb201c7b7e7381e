"""Samples of training pixels with the outputs of a network, to which scores are fitted."""

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
        prediction: Outputs of the network for these pixels, as an image of n rows and one column.
        labels: Classes of the pixels. Shape ``(n,)``, int64.
        weights: Number of pixels that each of them represents. Shape ``(n,)``, float32.
        linear: Weight ``(C, D)`` and bias ``(C,)`` of the network's last layer, which computes logits from features;
            ``None`` if there is no such layer.

    Raises:
        InputError: A label is not a class, or a weight is not a finite number above 0.
    """

    prediction: Prediction
    labels: Tensor
    weights: Tensor
    linear: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        count, classes = self.prediction.field("logits").shape[-2], self.classes
        labels, weights = self.labels, self.weights
        if labels.shape != (count,) or labels.dtype != torch.int64 or not ((labels >= 0) & (labels < classes)).all():
            values = f"{labels.dtype} of shape {tuple(labels.shape)} with the values {labels.unique().tolist()[:8]}"
            raise InputError(
                f"pixel sample: expected int64 labels from 0 to {classes - 1}, of shape ({count},), found {values}; "
                "leave out pixels without a class"
            )
        if weights.shape != (count,) or not ((weights > 0) & weights.isfinite()).all():
            raise InputError(
                f"pixel sample: expected finite weights above 0, of shape ({count},), found others; correct them"
            )

    def rows(self, name: str) -> Tensor:
        """Return a field of the prediction with the pixels as rows, for example logits ``(n, C)``, in float64."""
        maps = self.prediction.field(name)
        return maps[0, ..., 0].movedim(-1, 0).double()

    @property
    def classes(self) -> int:
        """Number of classes, C."""
        return self.prediction.field("logits").shape[1]


def draw_pixels(
    views: Sequence[tuple[Prediction | None, Tensor]], most: int, generator: torch.Generator
) -> list[PixelSample]:
    """Draw pixels of one image, equally many of each class that occurs.

    If there are more classes than pixels to draw, classes are sampled, and weighted to represent the others.

    Args:
        views: Output of the network for each view of the image, at any resolution, and the class of every pixel there,
            -1 if it has none or belongs to another view. Shape ``(h, w)``, int64. Without an output, which another
            process has, the same random numbers are drawn.
        most: Largest number of pixels.
        generator: CPU generator.

    Returns:
        The drawn pixels of each view that has an output.
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
    return [_picked(one, classes, part) for (one, classes), part in zip(views, parts, strict=True) if one is not None]


def _picked(prediction: Prediction, labels: Tensor, weights: Tensor) -> PixelSample:
    """Return the pixels whose weight is above 0."""
    index = weights.nonzero().squeeze(1)
    picked = {
        name: maps.flatten(-2)[..., index.to(maps.device)][..., None].float().cpu()
        for name in MAPS
        if (maps := getattr(prediction, name)) is not None
    }
    return PixelSample(Prediction(**{**vars(prediction), **picked}), labels.flatten()[index], weights[index])


def join(samples: Iterable[PixelSample]) -> PixelSample:
    """Concatenate the samples of several images.

    Raises:
        InputError: The samples have no pixel.
    """
    parts = [sample for sample in samples if len(sample.labels)]
    if not parts:
        raise InputError("expected labelled pixels in the training images, found none; use other images")
    first = parts[0]
    maps = {
        name: torch.cat([getattr(part.prediction, name) for part in parts], dim=-2)
        for name in MAPS
        if getattr(first.prediction, name) is not None
    }
    labels, weights = (torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "weights"))
    return PixelSample(Prediction(**{**vars(first.prediction), **maps}), labels, weights, first.linear)
