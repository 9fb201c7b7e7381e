"""What one evaluated frame is: an image, a label map in {KNOWN, ANOMALY, IGNORE}, and scores on its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.utils.given import text

KNOWN = 0
ANOMALY = 1
IGNORE = 255

Label = npt.NDArray[np.uint8]
Image = npt.NDArray[np.uint8]
ScoreMap = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """One image of an evaluation set with its label map.

    Args:
        id: Name of the frame, unique in its split.
        image: RGB image. Shape: ``(H, W, 3)``, uint8.
        label: Shape: ``(H, W)``, uint8, values ``KNOWN``, ``ANOMALY``, ``IGNORE`` only.
        class_label: The class of each ``KNOWN`` pixel, where the set tells classes; other pixels have any value. Shape:
            ``(H, W)``, uint8.

    Raises:
        InputError: Shapes, types or label values are not as above, or the id is no text.
    """

    id: str
    image: Image
    label: Label
    class_label: Label | None = None

    @cached_property
    def image_hash(self) -> str:
        """What tells the image from others: :func:`image_hash` of it."""
        return image_hash(self.image)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", as_frame_id(self.id))
        for name in ("image", "label", "class_label"):
            if getattr(self, name) is not None:
                array = as_array(self.id, name.replace("_", " "), getattr(self, name))
                object.__setattr__(self, name, array)
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise InputError(
                f"frame {self.id!r}: expected an RGB image (H, W, 3) of uint8, "
                f"found {self.image.shape} of {self.image.dtype}"
            )
        if self.label.shape != self.image.shape[:2] or self.label.dtype != np.uint8:
            raise InputError(
                f"frame {self.id!r}: the image has {_size(self.image)} pixels (height x width) but its label has "
                f"{_size(self.label)} ({self.label.dtype}); give the frame a uint8 label of the image's size"
            )
        check_label(self.id, self.label)
        if self.class_label is not None and self.class_label.shape != self.label.shape:
            raise InputError(
                f"frame {self.id!r}: the label has {_size(self.label)} pixels (height x width) but its class label has "
                f"{_size(self.class_label)}; give both of one size"
            )


def as_frame_id(frame_id: Any) -> str:
    """Give a frame's name as a str; a number is none, since files keep names as text. Raises ``InputError`` for it."""
    return text("frame id", frame_id)


def as_array(frame_id: str, what: str, values: Any) -> npt.NDArray[Any]:
    """Give what somebody calls an array of numbers as numpy's, in the machine's byte order, with the values it has.

    Tensors of torch may be on any device, need a gradient, or be of bfloat16, which becomes float32. Lists and what
    else numpy reads as numbers is read so.

    Args:
        frame_id: Of the frame, for the message.
        what: The array, for the message, such as ``label``.
        values: The array.

    Raises:
        InputError: It is a masked array, whose mask would be lost, or holds something else than real numbers and truth
            values.
    """
    rows = values if isinstance(values, (list, tuple)) else [values]
    if any(isinstance(row, np.ma.MaskedArray) for row in rows):
        raise InputError(
            f"frame {frame_id!r}: expected a plain array as {what}, found a masked one; fill it, and label what is not "
            f"to count {IGNORE}"
        )
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"frame {frame_id!r}: expected an array of numbers as {what}, found {type(values).__name__} that numpy "
            f"does not take ({str(error).splitlines()[0]}); give a numpy array of them"
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"frame {frame_id!r}: {what} is of type {array.dtype}; expected floats, integers or bool; convert it"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_score(frame_id: str, name: str, score: Any, shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    """Give scores as float32 where that holds each value of their type, else as float64.

    Args:
        frame_id: Of the frame, for the message.
        name: Of the score, for the message.
        score: See :func:`as_array`.
        shape: Of the label.

    Raises:
        InputError: The shape is another, a value is NaN or infinite, or float64 cannot tell the type's values apart.
    """
    score = as_array(frame_id, f"score {name!r}", score)
    check_score(frame_id, name, score, shape)
    kind, size = score.dtype.kind, score.dtype.itemsize
    if kind in "iu" and size == 8 and score.size and max(abs(int(score.min())), abs(int(score.max()))) > 2**53:
        raise InputError(
            f"frame {frame_id!r}: score {name!r} has integers beyond 2^53, which float64 cannot tell apart; subtract "
            "a constant, or give ranks"
        )
    if kind == "f" and size <= 8:
        return score if size >= 4 else score.astype(np.float32)
    if kind in "biu":
        return score.astype(np.float32 if size <= 2 else np.float64)
    raise InputError(
        f"frame {frame_id!r}: score {name!r} is of type {score.dtype}; expected float16, float32, float64, an integer "
        "or bool"
    )


def image_hash(image: Image) -> str:
    """Name an image by its pixels, whatever its file is called. Shape: ``(H, W, 3)``, uint8."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)  # which lets other threads run meanwhile
    return digest.hexdigest()[:24]


def check_label(frame_id: str, label: npt.NDArray[np.integer]) -> None:
    """Raise ``InputError`` unless ``label`` holds only ``KNOWN``, ``ANOMALY`` and ``IGNORE``."""
    if not ((label == KNOWN) | (label == ANOMALY) | (label == IGNORE)).all():
        extra = sorted(set(np.unique(label).tolist()) - {KNOWN, ANOMALY, IGNORE})
        raise InputError(
            f"frame {frame_id!r}: label values must be {KNOWN} (known), {ANOMALY} (anomaly) or {IGNORE} (ignore), "
            f"found {extra}; map the set's own values to these first"
        )


def check_score(frame_id: str, name: str, score: npt.NDArray[np.floating], shape: tuple[int, ...]) -> None:
    """Raise ``InputError`` unless ``score`` has ``shape`` ``(H, W)`` and every value is finite."""
    if score.shape != shape:
        raise InputError(
            f"frame {frame_id!r}: score {name!r} has shape {score.shape}, expected the label's {shape}; "
            "resize the score map to the label before scoring it"
        )
    if not np.isfinite(score).all():
        bad = int((~np.isfinite(score)).sum())
        raise InputError(
            f"frame {frame_id!r}: score {name!r} has {bad} NaN or infinite values of {score.size}; every pixel needs "
            "a finite score, so look for an overflow in the network or the score function"
        )


def _size(array: npt.NDArray[np.generic]) -> str:
    return "x".join(str(n) for n in array.shape[:2])
