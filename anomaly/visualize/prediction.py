"""Class maps as colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.visualize.palette import CLASSES, PAPER, RGB


def class_palette(count: int) -> tuple[RGB, ...]:
    """Return ``count`` colours; the first twenty are distinguishable with any colour vision, later ones only in hue."""
    golden = 0.618034  # difference in hue between consecutive classes, so that similar hues are far apart
    turned = (colorsys.hls_to_rgb(i * golden % 1, (0.45, 0.65, 0.3)[i % 3], 0.6) for i in range(len(CLASSES), count))
    return (*CLASSES[:count], *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in turned))


@dataclass(frozen=True)
class ClassColours:
    """Colours predicted or labelled classes; indices beyond the palette, such as 255, are light grey.

    Args:
        palette: RGB colour of each class.
    """

    palette: Sequence[RGB]

    @classmethod
    def of(cls, count: int) -> ClassColours:
        """Make an object for ``count`` classes with the colours of :func:`class_palette`."""
        return cls(class_palette(count))

    def draw(self, classes: npt.NDArray[np.integer]) -> Image:
        """Colour a map of class indices.

        Args:
            classes: Class indices, integers from 0. Shape ``(H, W)``.

        Returns:
            RGB image. Shape ``(H, W, 3)``, uint8.

        Raises:
            InputError: ``classes`` is not such a map, or an index is below 0.
        """
        classes = np.asarray(classes)
        if classes.ndim != 2 or classes.dtype.kind not in "iu":
            raise InputError(
                f"class colours: expected a map (H, W) of class indices, found {classes.shape} of {classes.dtype}; "
                "convert it"
            )
        if classes.size and classes.min() < 0:
            raise InputError(f"class colours: expected class indices from 0, found {classes.min()}; correct the map")
        table = np.array([*self.palette, PAPER], np.uint8)
        return table[np.minimum(classes, len(self.palette))]
