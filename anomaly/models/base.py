"""The model protocol: a model receives images and returns class scores of each pixel; it never receives a label."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from anomaly.errors import InputError
from anomaly.frames import Image

if TYPE_CHECKING:
    from torch import Tensor

PLAIN_MAPS = ("outlier_log_likelihood", "score")
MAPS = ("logits", "class_log_likelihood", "component_log_prob", "features", "mask_logits", *PLAIN_MAPS)
BATCHED = (*MAPS, "query_class_prob")
FIELDS = (*BATCHED, "component_peak")
"""Names of the fields of a prediction: maps of one value for each pixel, ``(B, h, w)``; all maps; what has an entry for
each input; and all that scores can use."""
MASKS = ("query_class_prob", "mask_logits")
"""Fields of a mask classifier, which gives both or none."""


@dataclass(frozen=True)
class Prediction:
    """A model's output for a batch of inputs.

    The maps may have any resolution ``(h, w)``, usually that of the network's last feature map.
    :class:`anomaly.Inference` decides whether scores are computed at this resolution, or after the maps are resized to
    the input. A field that the model does not provide is ``None``.

    Args:
        logits: Class logits before the softmax. Shape: ``(B, C, h, w)``, float32, any device.
        class_log_likelihood: ``log p(x | c)`` of a generative classifier, before any normalisation over classes. Shape:
            ``(B, C, h, w)``, float32.
        component_log_prob: ``log(w_cp N(x; cp))``, the weighted log-density of component p of class c. Minus infinity
            for a component that does not exist. Shape: ``(B, C, P, h, w)``, float32.
        component_peak: ``component_log_prob`` evaluated at the mean of each component. Shape: ``(C, P)``, float32.
        features: Input of the last layer, or the embedding of a generative classifier. Shape: ``(B, D, h, w)``,
            float32.
        score: An anomaly score that the model computes itself. Higher = more anomalous. Shape: ``(B, h, w)``, float32.
        mask_logits: Masks of a mask classifier's queries, before the sigmoid. Shape: ``(B, Q, h, w)``, float32.
        query_class_prob: Class probabilities of these queries, after the softmax, with the no-object class last. Shape:
            ``(B, Q, C + 1)``, float32.
        outlier_log_likelihood: ``log p(x | outlier)`` of a density fitted to outliers. Shape: ``(B, h, w)``, float32.
        covers: Height and width of the input that the maps cover, if the input was padded below and on the right; None
            without padding.
        align_corners: The ``align_corners`` setting of the network's own decoder, used to resize the maps.
    """

    logits: Tensor | None = None
    class_log_likelihood: Tensor | None = None
    component_log_prob: Tensor | None = None
    component_peak: Tensor | None = None
    features: Tensor | None = None
    score: Tensor | None = None
    mask_logits: Tensor | None = None
    query_class_prob: Tensor | None = None
    outlier_log_likelihood: Tensor | None = None
    covers: tuple[int, int] | None = None
    align_corners: bool = False

    def field(self, name: str) -> Tensor:
        """Return a field that is required.

        Args:
            name: Name of the field, such as ``"logits"``.

        Raises:
            InputError: The model does not provide it.
        """
        found: Tensor | None = getattr(self, name)
        if found is None:
            raise InputError(
                f"the model's predictions have no {name}, which is required here; use a score that does not need it"
            )
        return found

    def of(self, start: int, stop: int) -> Prediction:
        """Return the prediction for inputs ``start`` to ``stop - 1`` of the batch."""
        return self._each(lambda found: found[start:stop], BATCHED)

    @property
    def gives_classes(self) -> bool:
        """Whether the model gives classes: logits, or masks with class probabilities."""
        return self.logits is not None or (self.mask_logits is not None and self.query_class_prob is not None)

    def class_values(self) -> Tensor:
        """Values of which the largest is that of the predicted class.

        Returns:
            The logits, or for a mask classifier the sums over masks ``sum_q p_q(c) sigmoid(m_q)``, without the
            no-object class. Shape: ``(B, C, h, w)``, float32.

        Raises:
            InputError: The model gives neither.
        """
        if self.logits is not None:
            return self.logits
        from anomaly.models.masks import weighted_masks

        return weighted_masks(self.field("query_class_prob")[..., :-1], self.field("mask_logits")).float()

    def resized(self, size: tuple[int, int], names: Collection[str] = MAPS) -> Prediction:
        """Resize maps to the resolution of the input and remove the padding.

        Args:
            size: Height and width of the input.
            names: Names of the maps to keep; the others become None.
        """
        left_out: dict[str, Any] = {name: None for name in MAPS if name not in names}
        return replace(replace(self, **left_out)._each(lambda maps: self.resize(maps, size)), covers=None)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize maps of this prediction bilinearly to the input and remove the padding.

        Minus infinity stays minus infinity, also in every pixel that is interpolated from it.

        Args:
            maps: Maps of this prediction. Shape: ``(B, ..., h, w)``.
            size: Height and width ``(H, W)`` of the input.

        Returns:
            The resized maps. Shape: ``(B, ..., H, W)``.
        """
        covers = self.covers or size
        if maps.shape[-2:] != covers:
            flat = maps.flatten(1, -3) if maps.ndim > 3 else maps[:, None]
            absent = flat.isneginf()  # resized apart from the numbers: 0 times infinity is NaN
            resized = self._interpolate(flat.masked_fill(absent, 0), covers)
            if absent.any():
                resized.masked_fill_(self._interpolate(absent.float(), covers) > 0, float("-inf"))
            maps = resized.view(*maps.shape[:-2], *covers)
        return maps[..., : size[0], : size[1]]

    def _interpolate(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        from torch.nn.functional import interpolate

        return interpolate(maps, size, mode="bilinear", align_corners=self.align_corners)

    def _each(self, change: Callable[[Tensor], Tensor], names: Collection[str] = MAPS) -> Prediction:
        found = {name: maps for name in names if (maps := getattr(self, name)) is not None}
        changed = {name: change(maps) for name, maps in found.items()}
        return Prediction(**{**vars(self), **changed})


@runtime_checkable
class Model(Protocol):
    """Protocol of a model: anything that turns an image into a :class:`Prediction`.

    Attributes:
        gives: Names of the :class:`Prediction` fields that the model always provides, and that scores can use:
            ``"logits"`` of at least two classes, ``"features"``, ``"score"``, for a mask classifier
            ``"query_class_prob"`` and ``"mask_logits"``, and for a generative classifier ``"class_log_likelihood"``,
            ``"component_log_prob"`` and ``"component_peak"``, and ``"outlier_log_likelihood"`` if it has a density of
            outliers.
        classes: Names of the classes, in the order of the logits or probabilities; empty if they are not known.

    A model on a GPU has an attribute ``device``, so that ``precision="bfloat16"`` is that of this device.
    """

    gives: frozenset[str]
    classes: tuple[str, ...]

    def prepare(self, image: Image) -> Tensor:
        """Preprocess one RGB image. May run in another thread than the model.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The model's input, on the model's device. Shape: ``(3, h, w)``, float32.
        """
        ...

    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size: whole images, or views of them.

        Args:
            inputs: Preprocessed inputs, as :meth:`prepare` returns them. Shape: ``(B, 3, h, w)``, float32.
        """
        ...
