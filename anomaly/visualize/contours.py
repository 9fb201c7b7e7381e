"""Outlines of a mask on a photograph."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.labels import Image
from anomaly.visualize.palette import INK, RGB, SKY


@dataclass(frozen=True)
class Contours:
    """Draws the outlines of what a mask covers, bright with a dark rim, to be seen on any photograph.

    Args:
        colour: RGB.
        width: Of the bright line, in pixels.
    """

    colour: RGB = SKY
    width: int = 2

    def draw(self, photograph: Image, mask: npt.NDArray[np.bool_]) -> Image:
        """Outline all regions of ``mask``, holes too.

        Shape:
            ``(H, W, 3)``, uint8, and ``(H, W)``, bool. Returns a new picture of that size.

        Raises:
            InputError: The sizes differ.
        """
        if photograph.shape[:2] != mask.shape:
            raise InputError(f"contours: expected a mask of {photograph.shape[:2]} pixels, found {mask.shape}")
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        canvas = np.ascontiguousarray(photograph.copy())
        for colour, width in ((INK, self.width + 2), (self.colour, self.width)):
            cv2.drawContours(canvas, outlines, -1, colour, width)
        return canvas
