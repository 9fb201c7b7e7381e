"""Adapter that makes a model of any torch module or function that returns class logits, or masks with classes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.frames import Image, check_image
from anomaly.models.base import FIELDS, MASKS, Prediction
from anomaly.models.checks import MapChecks, as_float32
from anomaly.models.evaluation_mode import Steady, evaluation_mode, modules_of, state_kept
from anomaly.models.user_code import user_code
from anomaly.utils.given import real, whole
from anomaly.utils.names import check_distinct

Channels = tuple[float, float, float]
MOST_MEAN = 4.0
"""Larger means are of images from 0 to 255."""


def pick_device(name: str | torch.device | None) -> torch.device:
    """Return the device of that name; without a name, CUDA if available, else the CPU.

    Raises:
        InputError: torch does not know the device, or the machine does not have it.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name is None else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f"device {name!r}: expected one that torch has here, such as cpu, found: {reason}") from error
    return device


def move_pixels(pixels: Tensor, device: torch.device | None) -> Tensor:
    """Bring an image to a device; None leaves it where it is. Pixels of uint8 are a quarter of the bytes of float32.

    The copy goes to the default stream of a GPU, as what is computed from it, before the forward pass that reads it.

    Args:
        pixels: The image on the CPU, of any shape.
        device: The device.
    """
    if device is None or device.type != "cuda":
        return pixels if device is None else pixels.to(device)
    return pixels.pin_memory().to(device, non_blocking=True)  # the reading thread need not wait for the network


class TorchModel:
    """Model made of any ``nn.Module``, or function of tensors, that returns class logits, or masks with classes.

    A module is moved to ``device``. It runs without gradients and in evaluation mode, together with all modules that
    the function uses; their training flags are restored after each call. The first images are predicted twice: a
    warning says if the two predictions differ.

    Args:
        function: Receives a batch of RGB images ``(B, 3, h, w)``, float32, scaled to 0..1 and normalised. Returns
            logits ``(B, C, h', w')`` of any resolution, with C of at least 2: as a tensor, as the entry ``"logits"`` or
            ``"out"`` (as the networks of torchvision) of a dict, as the entry that ``output`` names, or in a dict of
            several fields of :class:`anomaly.Prediction`, named in ``gives``.
        output: Key (or index) of the logits in the dict (or tuple) that the network returns, if it is another one.
        classes: Names of the classes, in the order of the logits. Default: not known.
        gives: Names of the fields, if the function returns a dict of several. A mask classifier returns
            ``"query_class_prob"`` and ``"mask_logits"``.
        mean: Mean of each RGB channel on the scale 0..1, subtracted from the image. Default: 0. A module without
            ``mean`` or ``std`` causes a warning; pass ``mean=(0, 0, 0), std=(1, 1, 1)`` if it needs no normalisation.
        std: Standard deviation of each channel, by which the difference is divided. Default: 1.
        size: Height and width to which images are resized first (bilinear, antialiased). Score maps are returned at the
            size of the image. Default: no resizing.
        device: Device of a module, such as ``"cuda:1"``. Default: CUDA if available, else the CPU.

    Attributes:
        device: Device of a module; None for a function without ``device``.
        resizes: Whether images are resized, so that windows are cut from the resized image.

    Raises:
        InputError: ``gives`` has neither ``"logits"`` nor the two fields of a mask classifier, or names an unknown
            field, a value is out of range, or the device does not exist.

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
        unknown, complete = sorted(set(gives) - set(FIELDS)), "logits" in gives or set(MASKS) <= set(gives)
        if unknown or not complete:
            raise InputError(
                f"gives: expected logits, or {' and '.join(MASKS)}, and optionally others of {', '.join(FIELDS)}, "
                f"found {unknown if complete else list(gives)}"
            )
        if output is not None and set(gives) != {"logits"}:
            raise InputError(
                "output: expected it without gives, because both name the entries, found both; pass one of them"
            )
        if not callable(function):
            raise InputError(f"function: expected a function or a module, found {function!r}; pass something callable")
        if isinstance(function, nn.Module):
            self.device: torch.device | None = pick_device(device)
            function = function.to(self.device)
            _tell_normalisation(type(function).__name__, mean, std)
        else:
            self.device = None if device is None else pick_device(device)
        self._function = function
        self._output = output
        self._steady = Steady()
        self._asked = False
        mean, std = check_normalisation(
            (0.0, 0.0, 0.0) if mean is None else mean, (1.0, 1.0, 1.0) if std is None else std
        )
        self._mean, self._std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        if self.device is not None:
            self._mean, self._std = self._mean.to(self.device), self._std.to(self.device)
        self._size = None if size is None else _sides(size)
        if isinstance(classes, str):
            raise InputError(f"classes: expected several names, found the text {classes!r}; pass a list")
        self.classes = tuple(classes)
        check_distinct(self.classes, "classes")
        self._check = MapChecks(self.classes)
        self.resizes = self._size is not None
        self.gives = frozenset(gives)
        kind = type(function).__name__ if isinstance(function, nn.Module) else getattr(function, "__name__", "function")
        self._record: dict[str, Any] = {"name": str(kind), "type": type(function).__name__, "output": output}
        self._record |= {
            "size": self._size and list(self._size),
            "mean": list(mean),
            "std": list(std),
        }

    @property
    def record(self) -> dict[str, Any]:
        """Name, type, preprocessing and a hash of the present weights, for results."""
        return {**self._record, **weights_record(self._function)}

    def prepare(self, image: Image) -> Tensor:
        """Scale an image to 0..1, normalise it, and resize it to ``size`` if that was given.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The input of the network, on its device. Shape: ``(3, h, w)``, float32.

        Raises:
            InputError: ``image`` has another shape or type.
        """
        check_image(image)
        pixels = move_pixels(torch.from_numpy(np.ascontiguousarray(image)), self.device)
        scaled = pixels.permute(2, 0, 1).float() / 255
        inputs = (scaled - self._mean) / self._std
        if self._size is not None and tuple(inputs.shape[1:]) != self._size:
            inputs = F.interpolate(inputs[None], self._size, mode="bilinear", antialias=True)[0]
        return inputs

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size.

        Args:
            inputs: Images from :meth:`prepare`. Shape: ``(B, 3, h, w)``, float32.

        Raises:
            InputError: The function returns other fields than announced or maps of a wrong shape, or it changes its own
                state, as batch normalisation in training mode does.
        """
        inputs = inputs if self.device is None else inputs.to(self.device)
        with evaluation_mode(self._function) as modules:
            with nullcontext() if self._asked else state_kept(modules):
                maps: dict[str, Any] = dict(self._steady(self._ask, inputs))
            self._asked = True
        return Prediction(**maps)

    def _ask(self, inputs: Tensor) -> dict[str, Tensor]:
        with user_code(f"{self._record['name']} on inputs of shape {tuple(inputs.shape)}"):
            found = self._function(inputs)
        maps = {name: as_float32(value, name) for name, value in self._fields(found).items()}
        self._check(maps, len(inputs))
        return maps

    def _fields(self, found: Any) -> dict[str, Tensor]:
        """The returned tensors, keyed by the field names of a prediction."""
        if self._output is not None:
            try:
                entry = found[self._output]
            except (KeyError, IndexError, TypeError) as error:
                raise InputError(
                    f"output={self._output!r}: expected an entry of what the network returns, found {_entries(found)}; "
                    "name one that it has"
                ) from error
            found = {"logits": entry}
        elif isinstance(found, Tensor):
            found = {"logits": found}
        elif isinstance(found, Mapping) and self.gives == {"logits"}:
            named = [name for name in ("logits", "out") if name in found]  # others, such as a loss, are ignored
            found = {"logits": found[named[0]]} if named else found
        if of_transformers(self._function) and found.keys() != self.gives:
            raise InputError(
                f"model: expected logits, found a {type(self._function).__name__} of transformers, which returns "
                f"{_entries(found)}; pass anomaly.HuggingFaceModel(network, processor)"
            )
        if not isinstance(found, Mapping):
            raise InputError(
                f"model: expected a tensor of logits, or tensors by name, found {_entries(found)}; name the logits "
                "with output= of anomaly.TorchModel, or wrap the network in a function that selects them"
            )
        if found.keys() != self.gives:
            raise InputError(
                f"model: expected {', '.join(sorted(self.gives))}, found {_entries(found)}; name the logits with "
                "output=, or name all returned fields in gives="
            )
        if wrong := [name for name, value in found.items() if not isinstance(value, Tensor)]:
            raise InputError(f"model: expected a tensor as {wrong[0]}, found {type(found[wrong[0]]).__name__}")
        return dict(found)


def of_transformers(found: object) -> bool:
    """Whether an object is a network of Hugging Face transformers, which has an image processor."""
    return any(base.__name__ == "PreTrainedModel" for base in type(found).__mro__)


def weights_record(function: object) -> dict[str, str]:
    """SHA-256 of all weights that a function or module uses, whatever their order, as an entry of a model's record.

    Args:
        function: A module, or a function that uses modules.

    Returns:
        ``{"weights": HASH}``; empty if there are no weights.
    """
    found = []
    for module in modules_of(function):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
            found.append(digest.hexdigest())
    return {"weights": hashlib.sha256("".join(sorted(found)).encode()).hexdigest()} if found else {}


def weights_hash(state: dict[str, Tensor]) -> str:
    """Compute a hash of a network's tensors, independent of device and file.

    Tensors that only training uses (``.em.``, the EM state of GMMSeg, which a file may lack) are left out.

    Args:
        state: State dict of the network.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in state if ".em." not in name):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _tell_normalisation(name: str, mean: Channels | None, std: Channels | None) -> None:
    """Warn if the normalisation of a module is not given, or only half of it."""
    if mean is None and std is None:
        warnings.warn(
            f"{name}: no normalisation given, so images are only scaled to 0..1; if the network was trained with a "
            "normalisation, pass mean= and std= (else mean=(0, 0, 0), std=(1, 1, 1))",
            stacklevel=3,
        )
    elif mean is None or std is None:
        given, missing, none = ("std=", "mean=", "(0, 0, 0)") if mean is None else ("mean=", "std=", "(1, 1, 1)")
        warnings.warn(
            f"{name}: {given} is given without {missing}; pass both, as in training (else {missing}{none})",
            stacklevel=3,
        )


def _entries(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a dict with {', '.join(sorted(map(str, found)))}" if found else "an empty dict"
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__} of {len(found)}"
    return type(found).__name__


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> tuple[Channels, Channels]:
    """Return a normalisation as floats, after checking it.

    Args:
        mean: Mean of each RGB channel on the scale 0..1.
        std: Standard deviation of each channel.

    Raises:
        InputError: These are not three numbers each, the means are those of images from 0 to 255, or a deviation is
            not above 0.
    """
    means, stds = _channels("mean", mean), _channels("std", std)
    if max(map(abs, means)) > MOST_MEAN:
        raise InputError(
            f"mean: expected values for images scaled to 0..1, found {tuple(mean)}; divide mean and std by 255"
        )
    if not (torch.tensor(stds) > 0).all():  # as float32, in which images are divided by them
        raise InputError(f"std: expected three numbers above 0, found {std}; correct them")
    return means, stds


def _channels(name: str, values: Sequence[float]) -> Channels:
    """Return one value for each of three channels."""
    try:
        found = list(values)
    except TypeError:
        found = []
    if len(found) != 3:
        raise InputError(f"{name}: expected three numbers, one for each channel, found {values!r}; correct them")
    red, green, blue = (real(name, value, "three numbers", finite=True) for value in found)
    return red, green, blue


def _sides(size: Any) -> tuple[int, int]:
    sides = list(size) if isinstance(size, list | tuple) else []
    found = [whole("size", side, 1, "a height and a width of 1 or more") for side in sides]
    if len(found) != 2:
        raise InputError(f"size: expected a height and a width such as (512, 1024), found {size!r}; correct it")
    return found[0], found[1]
