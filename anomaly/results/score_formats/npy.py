"""One array in a ``.npy`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.results.score_formats.base import Format


def read(path: Path) -> npt.NDArray[Any]:
    """Read the array; pickled objects are refused."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # fails if the header announces more data than the file has
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(
            f"{path}: expected a complete .npy file with numbers, found another ({error}); write it again"
        ) from error
    return np.array(array)


FORMAT = Format("npy", read)
