"""A picture laid over an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.visualize.arrays import as_image, as_mask


@dataclass(frozen=True)
class Overlay:
    """Lays a picture over an image.

    Args:
        opacity: Of the picture, from 0 (not seen) to 1 (hides the image).

    Raises:
        InputError: ``opacity`` lies outside.
    """

    opacity: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise InputError(f"opacity: expected a number from 0 to 1, found {self.opacity}")

    def draw(self, image: Image, picture: Image, where: npt.NDArray[np.bool_] | None = None) -> Image:
        """Mix both, everywhere or only ``where``.

        Shape:
            ``(H, W, 3)``, uint8 both; ``where (H, W)``, bool. Returns a new picture of that size.

        Raises:
            InputError: The sizes differ, or one is of another kind.
        """
        image, picture = as_image(image, "overlay"), as_image(picture, "overlay")
        where = None if where is None else as_mask(where, "overlay")
        if image.shape != picture.shape or (where is not None and where.shape != image.shape[:2]):
            raise InputError(
                f"overlay: expected image, picture and mask of one size, found {image.shape}, {picture.shape}"
                + ("" if where is None else f", {where.shape}")
            )
        opacity = np.float32(self.opacity) * (1 if where is None else where[..., None])
        return np.rint(image * (1 - opacity) + picture * opacity).astype(np.uint8)
