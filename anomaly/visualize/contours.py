"""Outlines of a mask, drawn on an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.visualize.arrays import as_image, as_mask
from anomaly.visualize.palette import INK, RGB, SKY


@dataclass(frozen=True)
class Contours:
    """Draws the outlines of a mask as bright lines with a dark rim, which are visible on any image.

    Args:
        colour: RGB colour of the line.
        width: Width of the bright line in pixels.

    Raises:
        InputError: ``width`` is below 1.
    """

    colour: RGB = SKY
    width: int = 2

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"contours: expected a width of 1 pixel or more, found {self.width}; correct it")

    def draw(self, image: Image, mask: npt.NDArray[np.bool_]) -> Image:
        """Outline all regions of a mask, including holes.

        Args:
            image: RGB image. Shape ``(H, W, 3)``, uint8.
            mask: The mask. Shape ``(H, W)``, bool.

        Returns:
            A new image of the same size.

        Raises:
            InputError: The sizes differ, or an argument is not of this kind.
        """
        image, mask = as_image(image, "contours"), as_mask(mask, "contours")
        if image.shape[:2] != mask.shape:
            raise InputError(f"contours: expected a mask of {image.shape[:2]} pixels, found {mask.shape}; resize it")
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        canvas = np.ascontiguousarray(image.copy())
        for colour, width in ((INK, self.width + 2), (self.colour, self.width)):
            cv2.drawContours(canvas, outlines, -1, colour, width)
        return canvas
