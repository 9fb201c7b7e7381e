"""Single-channel images: integers of 8 or 16 bits, or floating-point TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.datasets.images import decode
from anomaly.errors import InputError
from anomaly.results.score_formats.base import Format

_TYPES = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32, "F": np.float32}


def read(path: Path) -> npt.NDArray[Any]:
    """Read the pixel values."""
    image = decode(path)
    if image.mode not in _TYPES:
        raise InputError(
            f"{path}: expected an image of one channel, 8 or 16 bits or floating point, found Pillow mode "
            f"{image.mode!r}; write the scores, not their colours"
        )
    values: npt.NDArray[Any] = np.array(image)
    if image.mode == "I":  # Pillow reads some 16-bit files in this mode
        if values.min() < 0 or values.max() > 65535:
            raise InputError(
                f"{path}: expected integers of 16 bits, found {values.min()} to {values.max()}; write floats"
            )
        values = values.astype(np.uint16)
    return values


PNG, TIFF = Format("png", read), Format("tiff", read)
