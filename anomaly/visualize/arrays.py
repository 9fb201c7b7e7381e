"""What drawing objects take: arrays, or what numpy makes arrays of, such as lists and tensors on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Image, Label


def as_image(found: npt.ArrayLike, who: str) -> Image:
    """Give an RGB picture ``(H, W, 3)``, uint8, or raise ``InputError``."""
    array = np.asarray(found)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(f"{who}: expected an RGB picture (H, W, 3) of uint8, found {array.shape} of {array.dtype}")
    return array


def as_score(found: npt.ArrayLike, who: str) -> npt.NDArray[np.floating]:
    """Give scores of any shape, all of them finite, or raise ``InputError``."""
    array = np.asarray(found)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{who}: expected scores, which are numbers, found {array.dtype}")
    if bad := int((~np.isfinite(array)).sum()):
        raise InputError(
            f"{who}: expected finite scores, found {bad} NaN or infinite ones of {array.size}; look for an overflow in "
            "the network or the score function"
        )
    return array


def as_score_map(found: npt.ArrayLike, who: str) -> npt.NDArray[np.floating]:
    """Give a score map ``(H, W)``, finite, or raise ``InputError``."""
    array = as_score(found, who)
    if array.ndim != 2:
        raise InputError(f"{who}: expected a score map (H, W), found shape {array.shape}; draw one at a time")
    return array


def as_mask(found: npt.ArrayLike, who: str) -> npt.NDArray[np.bool_]:
    """Give a mask ``(H, W)`` of true and false, or of 0 and 1, as bool, or raise ``InputError``."""
    array = np.asarray(found)
    if array.ndim != 2 or not (array.dtype == bool or (array.dtype.kind in "iu" and np.isin(array, (0, 1)).all())):
        raise InputError(
            f"{who}: expected a mask (H, W) of true and false, found {array.shape} of {array.dtype}; compare a score "
            "with a threshold, or a label with a value"
        )
    return array.astype(bool, copy=False)


def as_label(found: npt.ArrayLike, who: str) -> Label:
    """Give labels of any shape, ``KNOWN``, ``ANOMALY`` and ``IGNORE`` alone, as uint8, or raise ``InputError``."""
    array = np.asarray(found)
    if not ((array == KNOWN) | (array == ANOMALY) | (array == IGNORE)).all():
        extra = sorted(set(np.unique(array).tolist()) - {KNOWN, ANOMALY, IGNORE})
        raise InputError(
            f"{who}: expected labels {KNOWN} (known), {ANOMALY} (anomaly) and {IGNORE} (ignored), found {extra[:5]}"
        )
    return array.astype(np.uint8, copy=False)
