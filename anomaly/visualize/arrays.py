"""Checks of the inputs of drawing objects: arrays, or lists and CPU tensors that numpy converts to arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Image, Label


def as_image(found: npt.ArrayLike, who: str) -> Image:
    """Convert to an RGB image ``(H, W, 3)``, uint8, or raise ``InputError``."""
    array = np.asarray(found)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(
            f"{who}: expected an RGB image (H, W, 3) of uint8, found {array.shape} of {array.dtype}; convert it"
        )
    return array


def as_score(found: npt.ArrayLike, who: str) -> npt.NDArray[np.floating]:
    """Convert to finite scores of any shape, or raise ``InputError``."""
    array = np.asarray(found)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{who}: expected scores, which are numbers, found {array.dtype}; convert them")
    if bad := int((~np.isfinite(array)).sum()):
        raise InputError(
            f"{who}: expected finite scores, found {bad} NaN or infinite ones of {array.size}; check for an overflow "
            "in the network or the score function"
        )
    return array


def as_score_map(found: npt.ArrayLike, who: str) -> npt.NDArray[np.floating]:
    """Convert to a finite score map ``(H, W)``, or raise ``InputError``."""
    array = as_score(found, who)
    if array.ndim != 2:
        raise InputError(f"{who}: expected a score map (H, W), found shape {array.shape}; draw one at a time")
    return array


def as_mask(found: npt.ArrayLike, who: str) -> npt.NDArray[np.bool_]:
    """Convert a mask ``(H, W)`` of true and false, or of 0 and 1, to bool, or raise ``InputError``."""
    array = np.asarray(found)
    if array.ndim != 2 or not (array.dtype == bool or (array.dtype.kind in "iu" and np.isin(array, (0, 1)).all())):
        raise InputError(
            f"{who}: expected a mask (H, W) of true and false, found {array.shape} of {array.dtype}; compare a score "
            "with a threshold, or a label with a value"
        )
    return array.astype(bool, copy=False)


def as_label(found: npt.ArrayLike, who: str) -> Label:
    """Convert labels of any shape, with ``KNOWN``, ``ANOMALY`` and ``IGNORE``, to uint8, or raise ``InputError``."""
    array = np.asarray(found)
    if not ((array == KNOWN) | (array == ANOMALY) | (array == IGNORE)).all():
        extra = sorted(set(np.unique(array).tolist()) - {KNOWN, ANOMALY, IGNORE})
        raise InputError(
            f"{who}: expected labels {KNOWN} (known), {ANOMALY} (anomaly) and {IGNORE} (ignored), found {extra[:5]}; "
            "map the values to these first"
        )
    return array.astype(np.uint8, copy=False)
