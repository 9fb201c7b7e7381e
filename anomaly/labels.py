"""What one evaluated frame is: an image, a label map in {KNOWN, ANOMALY, IGNORE}, and scores on its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError

KNOWN = 0
ANOMALY = 1
IGNORE = 255

Label = npt.NDArray[np.uint8]
Image = npt.NDArray[np.uint8]
Score = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """One photograph of an evaluation set with its label map.

    Args:
        id: Name of the frame, unique in its split.
        image: RGB photograph. Shape: ``(H, W, 3)``, uint8.
        label: Shape: ``(H, W)``, uint8, values ``KNOWN``, ``ANOMALY``, ``IGNORE`` only.
        class_label: The class of each ``KNOWN`` pixel, where the set tells classes; other pixels have any value. Shape:
            ``(H, W)``, uint8.

    Raises:
        InputError: Shapes, types or label values are not as above.
    """

    id: str
    image: Image
    label: Label
    class_label: Label | None = None

    def __post_init__(self) -> None:
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
