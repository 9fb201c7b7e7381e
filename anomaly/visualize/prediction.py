"""Classes as colours."""

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
    """So many colours, the first twenty of which any colour vision tells apart; later ones go round the hues."""
    golden = 0.618034  # turns of the hue between one class and the next: none comes close to an earlier one soon
    turned = (colorsys.hls_to_rgb(i * golden % 1, (0.45, 0.65, 0.3)[i % 3], 0.6) for i in range(len(CLASSES), count))
    return (*CLASSES[:count], *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in turned))


@dataclass(frozen=True)
class ClassColours:
    """Colours predicted or labelled classes; ids beyond the palette, such as 255, are light grey.

    Args:
        palette: The colour of each class, RGB.
    """

    palette: Sequence[RGB]

    @classmethod
    def of(cls, count: int) -> ClassColours:
        """So many classes in colours of :func:`class_palette`."""
        return cls(class_palette(count))

    def draw(self, classes: npt.NDArray[np.integer]) -> Image:
        """Colour a map of class ids. Shape: ``(H, W)``, integers of 0 and more -> ``(H, W, 3)``, RGB uint8.

        Raises:
            InputError: It is no such map, or an id is below 0.
        """
        classes = np.asarray(classes)
        if classes.ndim != 2 or classes.dtype.kind not in "iu":
            raise InputError(f"class colours: expected a map (H, W) of ids, found {classes.shape} of {classes.dtype}")
        if classes.size and classes.min() < 0:
            raise InputError(f"class colours: expected ids of 0 and more, found {classes.min()}")
        table = np.array([*self.palette, PAPER], np.uint8)
        return table[np.minimum(classes, len(self.palette))]
