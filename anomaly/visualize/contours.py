"""Outlines of a mask on an image."""

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
    """Draws the outlines of what a mask covers, bright with a dark rim, to be seen on any image.

    Args:
        colour: RGB.
        width: Of the bright line, in pixels.

    Raises:
        InputError: ``width`` is below 1.
    """

    colour: RGB = SKY
    width: int = 2

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"contours: expected a width of 1 pixel or more, found {self.width}")

    def draw(self, image: Image, mask: npt.NDArray[np.bool_]) -> Image:
        """Outline all regions of ``mask``, holes too.

        Shape:
            ``(H, W, 3)``, uint8, and ``(H, W)``, bool. Returns a new picture of that size.

        Raises:
            InputError: The sizes differ, or one is of another kind.
        """
        image, mask = as_image(image, "contours"), as_mask(mask, "contours")
        if image.shape[:2] != mask.shape:
            raise InputError(f"contours: expected a mask of {image.shape[:2]} pixels, found {mask.shape}")
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        canvas = np.ascontiguousarray(image.copy())
        for colour, width in ((INK, self.width + 2), (self.colour, self.width)):
            cv2.drawContours(canvas, outlines, -1, colour, width)
        return canvas
