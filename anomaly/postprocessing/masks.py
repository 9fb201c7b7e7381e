"""Masks for pixels that cannot be anomalous: outside a region of interest, or of certain classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from anomaly.datasets.images import decode
from anomaly.errors import InputError
from anomaly.frames import ScoreMap


def roi(score: ScoreMap, frame: str, *, mask: Path) -> ScoreMap:
    """Set pixels outside a region of interest to the smallest score of the map.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        frame: Name of the frame.
        mask: Lossless image file of the map's size. A pixel is outside if all its channels except alpha are 0. Or a
            folder with one such image per frame, ``FRAME.png``.

    Returns:
        Score map. Shape ``(H, W)``, float32.

    Raises:
        InputError: The mask is missing, unreadable, of another size, or 0 everywhere.
    """
    return np.where(region(score.shape, frame, mask), score, score.min())


def region(shape: tuple[int, ...], frame: str, mask: Path) -> npt.NDArray[np.bool_]:
    """Read the region of interest of a frame.

    Args:
        shape: Height and width of the score map.
        frame: Name of the frame.
        mask: Image file, or a folder with one such image per frame.

    Returns:
        Whether a pixel is inside. Shape ``(H, W)``.

    Raises:
        InputError: The mask is missing, unreadable, of another size, or 0 everywhere.
    """
    path = mask / f"{frame}.png" if mask.is_dir() else mask
    inside = _nonzero(path)
    if inside.shape != shape:
        (h, w), (height, width) = inside.shape, shape
        raise InputError(
            f"roi: expected a mask of the image's size, {width}x{height}, for frame {frame!r}, found {w}x{h} in "
            f"{path} (width x height); resize the mask, or give a folder with one mask for each frame"
        )
    if not inside.any():
        raise InputError(
            f"roi: expected a region of interest in {path}, found a mask that is 0 everywhere; set the region to "
            "another value"
        )
    return inside


def _nonzero(path: Path) -> npt.NDArray[np.bool_]:
    picture = decode(path)
    values = np.array(picture)
    if values.ndim == 3:
        values = values[..., : -1 if picture.mode.endswith("A") else None].max(axis=2)
    return values > 0


def never(
    score: ScoreMap, classes: npt.NDArray[np.integer], class_names: tuple[str, ...], *, names: tuple[str, ...]
) -> ScoreMap:
    """Set pixels of classes that are never anomalous, such as sky, to the smallest score of the map.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        classes: Class index that the network predicts for each pixel. Shape ``(H, W)``.
        class_names: Names of the network's classes, in order.
        names: Names of the classes that are never anomalous.

    Returns:
        Score map. Shape ``(H, W)``, float32.

    Raises:
        InputError: ``names`` is empty, or holds a name that is not a class of the network.
    """
    return np.where(np.isin(classes, class_indices(class_names, names)), score.min(), score)


def class_indices(class_names: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """Find classes by their names.

    Args:
        class_names: Names of the network's classes, in order.
        names: Names of some of them.

    Returns:
        Their indices.

    Raises:
        InputError: ``names`` is empty, or holds a name that is not a class of the network.
    """
    if unknown := [name for name in names if name not in class_names] or ([] if names else ["none"]):
        raise InputError(
            f"never: expected names of the network's classes ({', '.join(class_names) or 'it has no names'}), found "
            f"{unknown[0]!r}; correct the names"
        )
    return [class_names.index(name) for name in names]
