"""Blending of a picture with an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.visualize.arrays import as_image, as_mask


@dataclass(frozen=True)
class Overlay:
    """Blends a picture, such as a heatmap, with an image.

    Args:
        opacity: Opacity of the picture, from 0 (invisible) to 1 (covers the image).

    Raises:
        InputError: ``opacity`` is not between 0 and 1.
    """

    opacity: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise InputError(f"opacity: expected a number from 0 to 1, found {self.opacity}; correct it")

    def draw(self, image: Image, picture: Image, where: npt.NDArray[np.bool_] | None = None) -> Image:
        """Blend both, everywhere or in a mask.

        Args:
            image: RGB image. Shape ``(H, W, 3)``, uint8.
            picture: RGB picture. Shape ``(H, W, 3)``, uint8.
            where: Mask of the pixels to blend; ``None`` for all pixels. Shape ``(H, W)``, bool.

        Returns:
            A new image of the same size.

        Raises:
            InputError: The sizes differ, or an argument is not of this kind.
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
