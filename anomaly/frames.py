"""The unit of evaluation: an image, its label map in {KNOWN, ANOMALY, IGNORE}, and checks of labels and score maps."""

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
    """One image of a dataset with its label map.

    Args:
        id: Name of the frame, unique in its dataset.
        image: RGB image. Shape: ``(H, W, 3)``, uint8.
        label: Label map with the values ``KNOWN`` (0), ``ANOMALY`` (1) and ``IGNORE`` (255) only. Shape: ``(H, W)``,
            uint8.
        class_label: Class of each ``KNOWN`` pixel, if the dataset labels classes; the values of other pixels have no
            meaning. Shape: ``(H, W)``, uint8.

    Raises:
        InputError: A shape, type or label value is invalid, or the id is not a string.
    """

    id: str
    image: Image
    label: Label
    class_label: Label | None = None

    @cached_property
    def image_hash(self) -> str:
        """Hash of the image's pixels, by :func:`image_hash`; it identifies the image whatever its name."""
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
    """Return a frame's name as a str. Raises ``InputError`` for anything else, such as a number."""
    return text("frame id", frame_id)


def as_array(frame_id: str, what: str, values: Any) -> npt.NDArray[Any]:
    """Convert an array-like of numbers that belongs to a frame to a numpy array; values stay the same.

    Args:
        frame_id: Name of the frame, for the message.
        what: What the array is, for the message, such as ``label``.
        values: The array-like: an array or tensor of any device, or lists of numbers.

    Raises:
        InputError: ``values`` is a masked array, or holds something other than real numbers or bools.
    """
    return plain_array(f"frame {frame_id!r}", what, values)


def plain_array(origin: str, what: str, values: Any) -> npt.NDArray[Any]:
    """Convert an array-like of numbers to a numpy array in native byte order; values stay the same.

    Tensors of torch may be on any device and may require gradients; bfloat16 becomes float32. Lists and other objects
    that numpy can convert are accepted.

    Args:
        origin: What the array comes from, for the message, such as ``frame 'a'``.
        what: What the array is, for the message, such as ``label``.
        values: The array-like.

    Raises:
        InputError: ``values`` is a masked array (its mask would be lost), or holds something other than real numbers or
            bools.
    """
    rows = values if isinstance(values, (list, tuple)) else [values]
    if any(isinstance(row, np.ma.MaskedArray) for row in rows):
        raise InputError(
            f"{origin}: expected a plain array as {what}, found a masked one; fill it, and give pixels that "
            f"do not count the label {IGNORE}"
        )
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{origin}: expected an array of numbers as {what}, found {type(values).__name__} that numpy "
            f"cannot convert ({str(error).splitlines()[0]}); pass a numpy array"
        ) from error
    if array.dtype.kind not in "biuf":
        found = type(values).__name__ if array.dtype == object else array.dtype
        raise InputError(f"{origin}: expected {what} of type float, integer or bool, found {found}; convert it")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_score(frame_id: str, name: str, score: Any, shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    """Return a score map as float32 if float32 represents every value of its type, else as float64.

    Args:
        frame_id: Name of the frame, for the message.
        name: Name of the score, for the message.
        score: The score map: anything that :func:`as_array` accepts. Shape: ``(H, W)``.
        shape: Shape ``(H, W)`` of the label.

    Raises:
        InputError: The shape is different, a value is NaN or infinite, or float64 cannot represent the values.
    """
    score = as_array(frame_id, f"score {name!r}", score)
    check_score(frame_id, name, score, shape)
    kind, size = score.dtype.kind, score.dtype.itemsize
    if kind in "iu" and size == 8 and score.size and max(abs(int(score.min())), abs(int(score.max()))) > 2**53:
        raise InputError(
            f"frame {frame_id!r}: score {name!r} has integers beyond 2^53, which float64 cannot represent; subtract "
            "a constant, or use ranks"
        )
    if kind == "f" and size <= 8:
        return score if size >= 4 else score.astype(np.float32)
    if kind in "biu":
        return score.astype(np.float32 if size <= 2 else np.float64)
    raise InputError(
        f"frame {frame_id!r}: expected score {name!r} of type float16, float32, float64, integer or bool, found "
        f"{score.dtype}; convert it"
    )


def image_hash(image: Image) -> str:
    """Hash an image's pixels and shape, independent of its file name. Shape: ``(H, W, 3)``, uint8."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)  # which lets other threads run meanwhile
    return digest.hexdigest()[:24]


def check_image(image: npt.NDArray[Any]) -> None:
    """Check that an array is an RGB image.

    Args:
        image: The array. Shape: ``(H, W, 3)``, uint8.

    Raises:
        InputError: It has another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"image: expected (H, W, 3) of uint8, found {image.shape} of {image.dtype}; convert it")


def check_label(frame_id: str, label: npt.NDArray[np.integer]) -> None:
    """Raise ``InputError`` unless ``label`` holds only ``KNOWN``, ``ANOMALY`` and ``IGNORE``."""
    if not ((label == KNOWN) | (label == ANOMALY) | (label == IGNORE)).all():
        extra = sorted(set(np.unique(label).tolist()) - {KNOWN, ANOMALY, IGNORE})
        raise InputError(
            f"frame {frame_id!r}: label values must be {KNOWN} (known), {ANOMALY} (anomaly) or {IGNORE} (ignore), "
            f"found {extra}; map the dataset's own values to these first"
        )


def check_score(frame_id: str, name: str, score: npt.NDArray[np.floating], shape: tuple[int, ...]) -> None:
    """Raise ``InputError`` unless ``score`` has ``shape`` ``(H, W)`` and every value is finite."""
    if score.shape != shape:
        raise InputError(
            f"frame {frame_id!r}: score {name!r} has shape {score.shape}, expected the label's {shape}; "
            "resize the score map to the label first"
        )
    if not np.isfinite(score).all():
        bad = int((~np.isfinite(score)).sum())
        raise InputError(
            f"frame {frame_id!r}: score {name!r} has {bad} NaN or infinite values of {score.size}; every pixel needs "
            "a finite score, so check the network and the score function for an overflow"
        )


def _size(array: npt.NDArray[np.generic]) -> str:
    return "x".join(str(n) for n in array.shape[:2])
