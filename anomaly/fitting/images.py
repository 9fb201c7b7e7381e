"""Ordinary images that densities and scores are fitted to, with or without labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.entry import RECORD
from anomaly.datasets.folder import find_images, pair_folders
from anomaly.datasets.images import read_image, read_label
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, Image, check_image

IGNORED = 255
Labelled = tuple[Image, Tensor]
"""An image ``(H, W, 3)``, uint8, and the class of every pixel ``(H, W)``, int64, -1 for none."""


@dataclass(frozen=True)
class TrainingImages:
    """Images to fit to.

    Args:
        items: The images, in any form that ``read`` takes.
        read: Returns an image ``(H, W, 3)``, uint8, and the class of every pixel ``(H, W)``, int64, -1 for none. It
            runs in another thread.
        labelled: Whether there are labels of classes; without them every pixel has the class 0, or none.
        classes: Number of classes of the labels.
        names: Names of the classes, if they are known.
        also_seen: Hashes of further images that the fit saw, such as those that objects were pasted into.
    """

    items: Sequence[Any]
    read: Callable[[Any], Labelled]
    labelled: bool = False
    classes: int = 1
    names: tuple[str, ...] = ()
    also_seen: frozenset[str] = frozenset()


def folder_of_images(images: Path, labels: Path | None = None, *, classes: int | None = None) -> TrainingImages:
    """Images below a folder, with label maps of the same names in another folder, or without.

    Args:
        images: Folder of images.
        labels: Folder of PNG label maps with class indices, 255 = none.
        classes: Number of classes that labels may have; None counts them, which reads all label maps.

    Raises:
        InputError: A folder is missing or empty, images and labels do not belong together, or a label is no class.
    """
    if labels is None:
        return TrainingImages(find_images(images), lambda item: _unlabelled(read_image(item[1])))
    pairs = pair_folders(images, labels)
    count = classes
    if count is None:
        seen = {int(value) for _, _, label in pairs for value in np.unique(read_label(label))} - {IGNORED}
        count = 1 + max(seen, default=-1)
        if count < 1:
            raise InputError(f"{labels}: expected class indices, found only {IGNORED} (none); give other label maps")

    def read(pair: tuple[str, Path, Path]) -> Labelled:
        _, image, label = pair
        found, classes_of = read_image(image), read_label(label)
        if found.shape[:2] != classes_of.shape:
            (height, width), (rows, columns) = found.shape[:2], classes_of.shape
            raise InputError(
                f"{label}: expected the size of {image}, {width}x{height}, found {columns}x{rows}; use files that "
                "belong together"
            )
        return found, class_indices(classes_of, count, str(label))

    return TrainingImages(pairs, read, labelled=True, classes=count)


def images_of(images: Sequence[Image]) -> TrainingImages:
    """Images in memory.

    Args:
        images: RGB images. Shape ``(H, W, 3)`` each, uint8.

    Raises:
        InputError: One has another shape or type.
    """
    for image in images:
        check_image(image)
    return TrainingImages(list(images), _unlabelled)


def outliers_of(dataset: Dataset) -> TrainingImages:
    """The anomalous pixels of a dataset, as outliers: they have the class 0, other pixels none.

    Args:
        dataset: A dataset with labels, such as one that ``anomaly data paste`` made.

    Raises:
        InputError: The record of ``anomaly data paste`` is damaged.
    """

    def read(index: int) -> Labelled:
        frame = dataset.frame(index)
        return frame.image, torch.where(torch.from_numpy(frame.label == ANOMALY), 0, -1)

    return TrainingImages(range(len(dataset)), read, also_seen=pasted_into(dataset.root))


def pasted_into(folder: Path) -> frozenset[str]:
    """Hashes of the images that objects were pasted into; empty if the folder has no record of that.

    Args:
        folder: Folder of ``anomaly data paste``.

    Raises:
        InputError: The record is damaged.
    """
    place = folder / RECORD
    if not place.is_file():
        return frozenset()
    try:
        record = json.loads(place.read_text())
        pasted = record["images"] if record.get("generator") == "paste" else []
        return frozenset(str(image["source_hash"]) for image in pasted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{place}: expected the record of `anomaly data paste`, found one that cannot be read ({error}); make the "
            "dataset again"
        ) from error


def class_indices(labels: npt.NDArray[np.integer], classes: int, where: str) -> Tensor:
    """Class of every pixel as int64, -1 for none.

    Args:
        labels: Class indices, 255 = none. Shape ``(H, W)``.
        classes: Number of classes.
        where: Name of the label map, for the message.

    Raises:
        InputError: A label is no class.
    """
    found = torch.from_numpy(labels.astype(np.int64))
    found = torch.where(found == IGNORED, -1, found)
    if undefined := found[(found < -1) | (found >= classes)].unique().tolist():
        raise InputError(
            f"label of {where}: expected classes 0 to {classes - 1} and {IGNORED} (ignored), found also "
            f"{undefined[:5]}; use labels with the class ids of the network"
        )
    return found


def _unlabelled(image: Image) -> Labelled:
    return image, torch.zeros(image.shape[:2], dtype=torch.long)
