"""What is asked of a network: images in, per-pixel class scores out, never a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from anomaly.labels import Image

MAPS = ("logits", "class_log_likelihood", "component_log_prob", "features")


@dataclass(frozen=True)
class Prediction:
    """A network's answer for a batch of inputs.

    ``(h, w)`` is any resolution, usually that of the network's last feature map: scores are computed there, or at the
    input's after the maps are resized (:class:`anomaly.inference.Inference` decides).

    Args:
        logits: Class logits before the softmax. Shape: ``(B, C, h, w)``, float32, any device.
        class_log_likelihood: ``log p(x | c)`` of a generative classifier, before any normalisation over
            classes; ``None`` for a network that has none. Shape: ``(B, C, h, w)``, float32.
        component_log_prob: ``log(w_cp N(x; cp))`` of its components with their weights, minus infinity for a component
            that is not there; likewise. Shape: ``(B, C, P, h, w)``, float32.
        component_peak: The same at each component's mean. Shape: ``(C, P)``, float32.
        features: What the last layer classifies, or the embedding of a generative classifier; ``None`` where the
            network does not give them. Shape: ``(B, D, h, w)``, float32.
        covers: Height and width of the input that the maps cover, where that was padded below and on the right.
        align_corners: How the network's own decoder resizes.
    """

    logits: Tensor
    class_log_likelihood: Tensor | None = None
    component_log_prob: Tensor | None = None
    component_peak: Tensor | None = None
    features: Tensor | None = None
    covers: tuple[int, int] | None = None
    align_corners: bool = False

    def of(self, start: int, stop: int) -> Prediction:
        """The answer for some inputs of the batch."""
        return self._each(lambda maps: maps[start:stop])

    def resized(self, size: tuple[int, int]) -> Prediction:
        """All maps at the resolution of the input of height and width ``size``, without padding."""
        return replace(self._each(lambda maps: self.resize(maps, size)), covers=None)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize maps of this prediction to the input of height and width ``size``. ``(B, ..., h, w)``, bilinearly."""
        covers = self.covers or size
        if maps.shape[-2:] != covers:
            flat = maps.flatten(1, -3) if maps.ndim > 3 else maps[:, None]
            flat = F.interpolate(flat, covers, mode="bilinear", align_corners=self.align_corners)
            maps = flat.view(*maps.shape[:-2], *covers)
        return maps[..., : size[0], : size[1]]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        found = {name: maps for name in MAPS if (maps := getattr(self, name)) is not None}
        changed = {name: change(maps) for name, maps in found.items()}
        return Prediction(**{**vars(self), **changed})


class Detector(Protocol):
    """Anything that turns a photograph into a :class:`Prediction`.

    Attributes:
        gives: Names of the :class:`Prediction` fields that are never ``None``: ``"logits"``; for a generative
            classifier ``"class_log_likelihood"``, ``"component_log_prob"`` and ``"component_peak"``; ``"features"``.
        classes: Names of the classes of the logits, in their order; empty where they are not known.
    """

    gives: frozenset[str]
    classes: tuple[str, ...]

    def prepare(self, image: Image) -> Tensor:
        """Make the network's input of one RGB photograph, called beside the network in another thread.

        Shape:
            ``(H, W, 3)``, uint8 -> ``(3, h, w)``, float32.
        """
        ...

    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict inputs of one size, whole photographs or windows of them. Shape: ``(B, 3, h, w)``."""
        ...
