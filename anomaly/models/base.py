"""What is asked of a model: images in, class scores of each pixel out, never a label."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from anomaly.errors import InputError
from anomaly.frames import Image

if TYPE_CHECKING:
    from torch import Tensor

MAPS = ("logits", "class_log_likelihood", "component_log_prob", "features", "score")
FIELDS = (*MAPS, "component_peak")
"""Names of what a prediction can hold."""


@dataclass(frozen=True)
class Prediction:
    """A model's answer for a batch of inputs.

    ``(h, w)`` is any resolution, usually that of the network's last feature map: scores are computed there, or at the
    input's after the maps are resized (:class:`anomaly.models.tiling.Inference` decides). A field that the model does
    not give is ``None``.

    Args:
        logits: Class logits before the softmax. Shape: ``(B, C, h, w)``, float32, any device.
        class_log_likelihood: ``log p(x | c)`` of a generative classifier, before any normalisation over classes. Shape:
            ``(B, C, h, w)``, float32.
        component_log_prob: ``log(w_cp N(x; cp))`` of a mixture's components with their weights, minus infinity for a
            component that is not there. Shape: ``(B, C, P, h, w)``, float32.
        component_peak: ``component_log_prob`` at each component's mean. Shape: ``(C, P)``, float32.
        features: What the last layer classifies, or the embedding of a generative classifier. Shape: ``(B, D, h, w)``,
            float32.
        score: An anomaly score that the model computes itself, higher = more anomalous. Shape: ``(B, h, w)``, float32.
        covers: Height and width of the input that the maps cover, where that was padded below and on the right.
        align_corners: How the network's own decoder resizes.
    """

    logits: Tensor | None = None
    class_log_likelihood: Tensor | None = None
    component_log_prob: Tensor | None = None
    component_peak: Tensor | None = None
    features: Tensor | None = None
    score: Tensor | None = None
    covers: tuple[int, int] | None = None
    align_corners: bool = False

    def field(self, name: str) -> Tensor:
        """Give a field that has to be there.

        Raises:
            InputError: The model does not give it.
        """
        found: Tensor | None = getattr(self, name)
        if found is None:
            raise InputError(f"the model's predictions have no {name}, which is needed here; ask for something else")
        return found

    def of(self, start: int, stop: int) -> Prediction:
        """The answer for inputs ``start`` to ``stop - 1`` of the batch."""
        return self._each(lambda maps: maps[start:stop])

    def resized(self, size: tuple[int, int], names: Collection[str] = MAPS) -> Prediction:
        """The maps of these names at the resolution of the input of height and width ``size``, without padding."""
        left_out: dict[str, Any] = {name: None for name in MAPS if name not in names}
        return replace(replace(self, **left_out)._each(lambda maps: self.resize(maps, size)), covers=None)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize maps of this prediction bilinearly to the input of height and width ``size``. ``(B, ..., h, w)``.

        Minus infinity stays so, and spreads to the pixels that are interpolated from it.
        """
        covers = self.covers or size
        if maps.shape[-2:] != covers:
            flat = maps.flatten(1, -3) if maps.ndim > 3 else maps[:, None]
            absent = flat.isneginf()  # no number may come of it: 0 times infinity is none
            resized = self._interpolate(flat.masked_fill(absent, 0), covers)
            if absent.any():
                resized.masked_fill_(self._interpolate(absent.float(), covers) > 0, float("-inf"))
            maps = resized.view(*maps.shape[:-2], *covers)
        return maps[..., : size[0], : size[1]]

    def _interpolate(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        from torch.nn.functional import interpolate

        return interpolate(maps, size, mode="bilinear", align_corners=self.align_corners)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        found = {name: maps for name in MAPS if (maps := getattr(self, name)) is not None}
        changed = {name: change(maps) for name, maps in found.items()}
        return Prediction(**{**vars(self), **changed})


@runtime_checkable
class Model(Protocol):
    """Anything that turns an image into a :class:`Prediction`.

    Attributes:
        gives: Names of the :class:`Prediction` fields that scores can be made of, never ``None``: ``"logits"``, of two
            classes or more; for a generative classifier ``"class_log_likelihood"``, ``"component_log_prob"`` and
            ``"component_peak"``; ``"features"``; ``"score"``.
        classes: Names of the classes of the logits, in their order; empty where they are not known.
    """

    gives: frozenset[str]
    classes: tuple[str, ...]

    def prepare(self, image: Image) -> Tensor:
        """Make the model's input of one RGB image; called in another thread than the model.

        Shape:
            ``(H, W, 3)``, uint8 -> ``(3, h, w)``, float32.
        """
        ...

    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict inputs of one size, whole images or views of them. Shape: ``(B, 3, h, w)``."""
        ...
