"""What is asked of a network: images in, per-pixel class scores out, never a label."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.models.evaluation_mode import Steady, evaluation_mode, state_kept
from anomaly.utils.given import real
from anomaly.utils.names import check_distinct

MAPS = ("logits", "class_log_likelihood", "component_log_prob", "features")


@dataclass(frozen=True)
class Prediction:
    """A network's answer for a batch of inputs.

    ``(h, w)`` is any resolution, usually that of the network's last feature map: scores are computed there, or at the
    input's after the maps are resized (:class:`anomaly.models.tiling.Inference` decides).

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

    def resized(self, size: tuple[int, int], names: Collection[str] = MAPS) -> Prediction:
        """Logits and the maps of these names at the resolution of the input of height and width ``size``, no others.

        Padding is left out.
        """
        left_out: dict[str, Any] = {name: None for name in MAPS if name != "logits" and name not in names}
        return replace(replace(self, **left_out)._each(lambda maps: self.resize(maps, size)), covers=None)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize maps of this prediction to the input of height and width ``size``. ``(B, ..., h, w)``, bilinearly.

        Minus infinity stays so, and spreads to the pixels that are interpolated from it.
        """
        covers = self.covers or size
        if maps.shape[-2:] != covers:
            flat = maps.flatten(1, -3) if maps.ndim > 3 else maps[:, None]
            absent = flat.isneginf()  # no number may come of it: 0 times infinity is none
            resized = self._interpolate(flat.masked_fill(absent, 0), covers)
            if absent.any():
                resized.masked_fill_(self._interpolate(absent.float(), covers) > 0, -torch.inf)
            maps = resized.view(*maps.shape[:-2], *covers)
        return maps[..., : size[0], : size[1]]

    def _interpolate(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(maps, size, mode="bilinear", align_corners=self.align_corners)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        found = {name: maps for name in MAPS if (maps := getattr(self, name)) is not None}
        changed = {name: change(maps) for name, maps in found.items()}
        return Prediction(**{**vars(self), **changed})


class Model(Protocol):
    """Anything that turns a image into a :class:`Prediction`.

    Attributes:
        gives: Names of the :class:`Prediction` fields that scores can be made of, never ``None``: ``"logits"``, of two
            classes or more; for a generative classifier ``"class_log_likelihood"``, ``"component_log_prob"`` and
            ``"component_peak"``; ``"features"``.
        classes: Names of the classes of the logits, in their order; empty where they are not known.
    """

    gives: frozenset[str]
    classes: tuple[str, ...]

    def prepare(self, image: Image) -> Tensor:
        """Make the network's input of one RGB image, called beside the network in another thread.

        Shape:
            ``(H, W, 3)``, uint8 -> ``(3, h, w)``, float32.
        """
        ...

    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict inputs of one size, whole images or windows of them. Shape: ``(B, 3, h, w)``."""
        ...


class TorchModel:
    """Any function, or module, that gives class logits of images: a network of another library, or no network at all.

    Each call has all modules that the function is or reaches in evaluation mode, and leaves them as it found them
    (:func:`anomaly.models.evaluation_mode.evaluation_mode`). Where the first images, shown twice, get two answers, a warning
    says so (:class:`anomaly.models.evaluation_mode.Steady`).

    Args:
        function: Takes a batch of inputs ``(B, 3, h, w)``, float32, and gives logits ``(B, C, h', w')`` of any
            resolution, or several fields of :class:`Prediction` by name. Called without gradients.
        classes: Names of the classes of the logits, in their order; empty where they are not known.
        gives: Names of the fields that it gives.
        mean: Of each channel, taken off the image (RGB, 0 to 1) before ``function`` sees it.
        std: Of each channel, by which what is left is divided.

    Raises:
        InputError: ``gives`` has no logits, or a field that there is not.

    Examples:
        >>> dark = TorchModel(lambda images: torch.cat([images, -images], dim=1))
        >>> dark(dark.prepare(np.zeros((4, 6, 3), np.uint8))[None]).logits.shape
        torch.Size([1, 6, 4, 6])
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor | Mapping[str, Tensor]],
        *,
        classes: tuple[str, ...] = (),
        gives: tuple[str, ...] = ("logits",),
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        known = (*MAPS, "component_peak")
        if "logits" not in gives or (unknown := sorted(set(gives) - set(known))):
            named = unknown if "logits" in gives else list(gives)
            raise InputError(f"gives: expected logits and maybe others of {', '.join(known)}, found {named}")
        if not callable(function):
            raise InputError(f"function: expected a function or a module, found {function!r}")
        self._function = function
        self._steady = Steady()
        self._asked = False
        self._mean, self._std = _channels("mean", mean), _channels("std", std)
        if not (self._std > 0).all():
            raise InputError(f"std: expected three numbers above 0, found {std}")
        self.classes = tuple(classes)
        check_distinct(self.classes, "classes")
        self.gives = frozenset(gives)

    def prepare(self, image: Image) -> Tensor:
        """Scale to 0..1 and normalise. Shape: ``(H, W, 3)``, uint8 -> ``(3, H, W)``, float32.

        Raises:
            InputError: It is no such image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"image: expected (H, W, 3) of uint8, found {image.shape} of {image.dtype}; convert it")
        scaled = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        return (scaled - self._mean) / self._std

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict inputs of one size. Shape: ``(B, 3, h, w)``.

        Raises:
            InputError: The function gives other fields than it said, or maps of another shape; or it changes its own
                state, as batch normalisation in training mode does.
        """
        with evaluation_mode(self._function) as modules:
            with nullcontext() if self._asked else state_kept(modules):
                maps: dict[str, Any] = dict(self._steady(self._ask, inputs))
            self._asked = True
        return Prediction(**maps)

    def _ask(self, inputs: Tensor) -> dict[str, Tensor]:
        found = self._function(inputs)
        fields = {"logits": found} if isinstance(found, Tensor) else dict(found) if isinstance(found, Mapping) else {}
        if not fields or not all(isinstance(value, Tensor) for value in fields.values()):
            raise InputError(
                f"detector function: expected a tensor of logits, or tensors by name, found {type(found).__name__}"
            )
        if fields.keys() != self.gives:
            raise InputError(
                f"detector function: expected {', '.join(sorted(self.gives))}, found {', '.join(sorted(fields))}; name "
                "in gives what it gives"
            )
        maps = {name: value.float() for name, value in fields.items()}
        shape = tuple(maps["logits"].shape)
        if len(shape) != 4 or shape[0] != len(inputs) or shape[1] < 2:
            raise InputError(
                f"detector function: expected logits (B, C, h, w) of {len(inputs)} inputs and at least two classes, "
                f"found shape {shape}"
            )
        if self.classes and len(self.classes) != shape[1]:
            raise InputError(
                f"detector function: expected logits of the {len(self.classes)} classes, found {shape[1]}; name all"
            )
        for name, value in maps.items():
            batched = name in MAPS and (value.ndim < 4 or len(value) != shape[0])
            if batched or (name == "class_log_likelihood" and value.shape[1] != shape[1]):
                raise InputError(
                    f"detector function: expected {name} of {shape[0]} inputs and {shape[1]} classes, found shape "
                    f"{tuple(value.shape)}"
                )
        return maps


def _channels(name: str, values: Sequence[float]) -> Tensor:
    """Give the value of each of three channels. Shape: ``(3, 1, 1)``, float32."""
    try:
        found = list(values)
    except TypeError:
        found = []
    if len(found) != 3:
        raise InputError(f"{name}: expected three numbers, one of each channel, found {values!r}")
    numbers = [real(name, value, "three numbers", finite=True) for value in found]
    return torch.tensor(numbers)[:, None, None]
