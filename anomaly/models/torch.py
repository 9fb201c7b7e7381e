"""Any module or function of torch that gives class logits, as a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.models.base import FIELDS, MAPS, Prediction
from anomaly.models.evaluation_mode import Steady, evaluation_mode, state_kept
from anomaly.utils.given import real, whole
from anomaly.utils.names import check_distinct

Channels = tuple[float, float, float]


def pick_device(name: str | torch.device | None) -> torch.device:
    """Give the device of that name; without a name CUDA where there is one, else the CPU.

    Raises:
        InputError: torch does not know or does not have the device.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name is None else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r}: expected one that torch has here, such as cpu, found: {reason}") from error
    return device


class TorchModel:
    """Any ``nn.Module``, or function of tensors, that gives class logits of images.

    A module is moved to ``device`` once. Each call has all modules that the function is or reaches in evaluation mode,
    without gradients, and leaves their mode as it was. Where the first images, shown twice, get two answers, a warning
    says so.

    Args:
        function: Takes a batch of RGB images ``(B, 3, h, w)``, float32, scaled to 0..1 and normalised. Gives logits
            ``(B, C, h', w')`` of any resolution, C at least 2: a tensor; or a dict that has them as ``"logits"``, as
            ``output`` says, or beside other fields of :class:`anomaly.models.Prediction` by the names in ``gives``.
        output: Which entry of a dict (or tuple) the logits are, such as ``"out"`` of torchvision's networks.
        classes: Names of the classes of the logits, in their order; empty where they are not known.
        gives: Names of the fields that a dict of several has.
        mean: Of each channel, subtracted from the image (RGB, 0 to 1). For a module without ``mean`` or ``std`` a
            warning says that its images are not normalised; ``mean=(0, 0, 0), std=(1, 1, 1)`` says that this is right.
        std: Of each channel, by which the rest is divided.
        size: Height and width that images are resized to first (bilinear); their own size by default. Score maps come
            back at the image's size.
        device: Where a module runs, such as ``"cuda:1"``; CUDA where there is one, else the CPU, by default.

    Raises:
        InputError: ``gives`` has no logits, or a field that there is not; a value is out of range; there is no such
            device.

    Examples:
        >>> dark = TorchModel(lambda images: torch.cat([images, -images], dim=1))
        >>> dark(dark.prepare(np.zeros((4, 6, 3), np.uint8))[None]).logits.shape
        torch.Size([1, 6, 4, 6])
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        output: str | int | None = None,
        classes: Sequence[str] = (),
        gives: Sequence[str] = ("logits",),
        mean: Channels | None = None,
        std: Channels | None = None,
        size: tuple[int, int] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if isinstance(gives, str):
            gives = (gives,)
        if "logits" not in gives or (unknown := sorted(set(gives) - set(FIELDS))):
            named = unknown if "logits" in gives else list(gives)
            raise InputError(f"gives: expected logits and maybe others of {', '.join(FIELDS)}, found {named}")
        if output is not None and set(gives) != {"logits"}:
            raise InputError("output: expected it without gives, since each says which entries are what; give one")
        if not callable(function):
            raise InputError(f"function: expected a function or a module, found {function!r}")
        if isinstance(function, nn.Module):
            self._device: torch.device | None = pick_device(device)
            function = function.to(self._device)
            _tell_normalisation(type(function).__name__, mean, std)
        else:
            self._device = None if device is None else pick_device(device)
        self._function = function
        self._output = output
        self._steady = Steady()
        self._asked = False
        mean, std = (0.0, 0.0, 0.0) if mean is None else mean, (1.0, 1.0, 1.0) if std is None else std
        self._mean, self._std = _channels("mean", mean), _channels("std", std)
        if not (self._std > 0).all():
            raise InputError(f"std: expected three numbers above 0, found {std}")
        self._size = None if size is None else _sides(size)
        if isinstance(classes, str):
            raise InputError(f"classes: expected several names, found the text {classes!r}; give a list")
        self.classes = tuple(classes)
        check_distinct(self.classes, "classes")
        self.gives = frozenset(gives)
        kind = type(function).__name__ if isinstance(function, nn.Module) else getattr(function, "__name__", "function")
        self.record: dict[str, Any] = {"name": str(kind), "type": type(function).__name__, "output": output}
        self.record |= {"size": self._size and list(self._size), "mean": [*map(float, mean)], "std": [*map(float, std)]}

    def prepare(self, image: Image) -> Tensor:
        """Scale to 0..1, normalise, and resize where a size was given. Shape: ``(H, W, 3)``, uint8 -> ``(3, h, w)``.

        Raises:
            InputError: It is no such image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"image: expected (H, W, 3) of uint8, found {image.shape} of {image.dtype}; convert it")
        scaled = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        inputs = (scaled - self._mean) / self._std
        if self._size is not None and tuple(inputs.shape[1:]) != self._size:
            inputs = F.interpolate(inputs[None], self._size, mode="bilinear", antialias=True)[0]
        return inputs

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict inputs of one size. Shape: ``(B, 3, h, w)``.

        Raises:
            InputError: The function gives other fields than it said, or maps of another shape; or it changes its own
                state, as batch normalisation in training mode does.
        """
        inputs = inputs if self._device is None else inputs.to(self._device)
        with evaluation_mode(self._function) as modules:
            with nullcontext() if self._asked else state_kept(modules):
                maps: dict[str, Any] = dict(self._steady(self._ask, inputs))
            self._asked = True
        return Prediction(**maps)

    def _ask(self, inputs: Tensor) -> dict[str, Tensor]:
        maps = {name: value.float() for name, value in self._fields(self._function(inputs)).items()}
        shape = tuple(maps["logits"].shape)
        if len(shape) != 4 or shape[0] != len(inputs) or shape[1] < 2:
            raise InputError(
                f"model: expected logits (B, C, h, w) of {len(inputs)} inputs and at least two classes, found shape "
                f"{shape}" + (" (the softmax of one class is 1 everywhere)" if shape[1:2] == (1,) else "")
            )
        if self.classes and len(self.classes) != shape[1]:
            raise InputError(
                f"model: expected logits of the {len(self.classes)} classes, found {shape[1]}; name all of them"
            )
        for name, value in maps.items():
            batched = name in MAPS and (value.ndim < (3 if name == "score" else 4) or len(value) != shape[0])
            if batched or (name == "class_log_likelihood" and value.shape[1] != shape[1]):
                raise InputError(
                    f"model: expected {name} of {shape[0]} inputs and {shape[1]} classes, found shape "
                    f"{tuple(value.shape)}"
                )
        return maps

    def _fields(self, found: Any) -> dict[str, Tensor]:
        """The tensors by the names of a prediction's fields."""
        if self._output is not None:
            try:
                entry = found[self._output]
            except (KeyError, IndexError, TypeError) as error:
                raise InputError(
                    f"output={self._output!r}: expected an entry of what the network gives, found {_entries(found)}; "
                    "name one of them"
                ) from error
            found = {"logits": entry}
        elif isinstance(found, Tensor):
            found = {"logits": found}
        elif isinstance(found, Mapping) and self.gives == {"logits"} and "logits" in found:
            found = {"logits": found["logits"]}  # beside what else a network says, such as a loss
        if not isinstance(found, Mapping):
            raise InputError(
                f"model: expected a tensor of logits, or tensors by name, found {_entries(found)}; name the logits "
                "with output=, or let a function pick them out"
            )
        if found.keys() != self.gives:
            raise InputError(
                f"model: expected {', '.join(sorted(self.gives))}, found {_entries(found)}; name the logits with "
                "output=, or in gives all that it gives"
            )
        if wrong := [name for name, value in found.items() if not isinstance(value, Tensor)]:
            raise InputError(f"model: expected a tensor as {wrong[0]}, found {type(found[wrong[0]]).__name__}")
        return dict(found)


def _tell_normalisation(name: str, mean: Channels | None, std: Channels | None) -> None:
    """Warn of a module whose normalisation is not given, or only half of it."""
    if mean is None and std is None:
        warnings.warn(
            f"{name}: no normalisation given, so images are scaled to 0..1 and no more; if the network was trained "
            "with mean= and std=, name them (else mean=(0, 0, 0), std=(1, 1, 1))",
            stacklevel=3,
        )
    elif mean is None or std is None:
        given, missing, none = ("std=", "mean=", "(0, 0, 0)") if mean is None else ("mean=", "std=", "(1, 1, 1)")
        warnings.warn(
            f"{name}: {given} is given without {missing}; name both, as the network was trained (else {missing}{none})",
            stacklevel=3,
        )


def _entries(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a dict with {', '.join(sorted(map(str, found)))}" if found else "an empty dict"
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__} of {len(found)}"
    return type(found).__name__


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


def _sides(size: Any) -> tuple[int, int]:
    sides = list(size) if isinstance(size, list | tuple) else []
    found = [whole("size", side, 1, "a height and a width of 1 or more") for side in sides]
    if len(found) != 2:
        raise InputError(f"size: expected a height and a width such as (512, 1024), found {size!r}")
    return found[0], found[1]
