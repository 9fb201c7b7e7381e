"""Objects to paste: cut-outs from files, and regions of known classes in labelled images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.folder import find_images, pair_folders
from anomaly.datasets.images import decode, read_image, read_label
from anomaly.errors import InputError
from anomaly.frames import Image, Label

OPAQUE = 0.5
"""Smallest alpha, of 1, of a pixel that belongs to the object."""

_FAINT = 16  # a smaller alpha, of 255, is taken as 0: the noise of lossy files
_FEATHER = 0.7  # standard deviation, in pixels, of the soft border of an object that a mask or a label map bounds
_LEAST_PIXELS = 150  # of a region of a known class: smaller ones show no object
_LEAST_FILLED = 0.3  # share of its bounding box: the rest are parts left over behind other objects

Rgba = npt.NDArray[np.uint8]
"""Colours and alpha, not premultiplied. Shape ``(h, w, 4)``."""


@dataclass(frozen=True)
class Cutout:
    """A file with a cut-out.

    Args:
        path: The image.
        mask: Its mask, not 0 at the object; ``None`` if the image has an alpha channel.
    """

    path: Path
    mask: Path | None = None

    def read(self) -> Rgba:
        """Read the object, trimmed to its bounding box.

        Raises:
            InputError: A file cannot be read, the image has no transparent pixel and no mask, the mask has another
                size, or the object is nowhere at least half opaque.
        """
        if self.mask is None:
            return _trimmed(self._with_alpha(), self.path)
        image, mask = read_image(self.path), read_label(self.mask)
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"{self.mask}: expected a mask of the size of {self.path}, {_size(image)}, found {_size(mask)} (width "
                "x height); make it anew from this image"
            )
        return _trimmed(np.dstack((image, _feathered(mask > 0))), self.mask)

    def _with_alpha(self) -> Rgba:
        picture = decode(self.path)
        has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        rgba = np.array(picture.convert("RGBA"))
        if not has_alpha or (rgba[..., 3] == 255).all():
            raise InputError(
                f"{self.path}: expected a cut-out with transparent pixels around the object, found none; save it with "
                "an alpha channel (PNG or WebP), or give masks (--cutout-masks)"
            )
        return rgba


def find_cutouts(folder: Path, masks: Path | None = None) -> list[Cutout]:
    """List the cut-outs below a folder, in the order of their names.

    Args:
        folder: Images, at any depth.
        masks: Folder with a mask of each image, in a PNG file of the same name; ``None`` if the images have an alpha
            channel.

    Raises:
        InputError: There is no image, or an image or a mask has no counterpart.
    """
    if masks is None:
        return [Cutout(path) for _, path in find_images(folder)]
    return [Cutout(path, mask) for _, path, mask in pair_folders(folder, masks)]


@dataclass(frozen=True)
class Region:
    """A connected region of one class in a label map.

    Args:
        class_index: The class.
        top: Its first row.
        left: Its first column.
        mask: Where it is in its bounding box. Shape ``(h, w)``, bool.
    """

    class_index: int
    top: int
    left: int
    mask: npt.NDArray[np.bool_]

    def cut(self, image: Image) -> Rgba:
        """Cut the region out of an image, without its border, which label maps place only roughly.

        Args:
            image: The RGB image of the label map. Shape ``(H, W, 3)``, uint8.

        Returns:
            The object, of the size of ``mask``; alpha is soft at its border. Shape ``(h, w, 4)``.
        """
        height, width = self.mask.shape
        inner = cv2.erode(np.pad(self.mask.astype(np.uint8), 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
        colours = image[self.top : self.top + height, self.left : self.left + width]
        return np.dstack((colours, _feathered(inner > 0)))


def find_regions(label: Label, classes: Collection[int]) -> list[Region]:
    """List the connected regions of some classes that may show a whole object.

    Regions that touch the border of the image, are tiny, or fill little of their bounding box are left out.

    Args:
        label: Class indices. Shape ``(H, W)``, uint8.
        classes: The classes.

    Returns:
        The regions, in the order of their classes.
    """
    height, width = label.shape
    found = []
    for index in sorted(classes):
        count, numbers, stats, _ = cv2.connectedComponentsWithStats((label == index).astype(np.uint8))
        for number in range(1, count):
            left, top, w, h, pixels = stats[number].tolist()
            inside = left > 0 and top > 0 and left + w < width and top + h < height
            if inside and pixels >= max(_LEAST_PIXELS, _LEAST_FILLED * w * h):
                found.append(Region(index, top, left, numbers[top : top + h, left : left + w] == number))
    return found


def check_cutouts(cutouts: Sequence[Cutout], images: Sequence[Path]) -> None:
    """Check that no cut-out is one of the ordinary images.

    Raises:
        InputError: A cut-out is the same file as an image, or has the same bytes.
    """
    by_size: dict[int, list[Path]] = {}
    for path in images:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for cutout in cutouts:
        content = None
        for path in by_size.get(cutout.path.stat().st_size, ()):
            content = cutout.path.read_bytes() if content is None else content
            if path.read_bytes() == content:
                raise InputError(
                    f"{cutout.path}: expected a cut-out, found the ordinary image {path}; give a folder of other "
                    "objects as cut-outs"
                )


def _trimmed(rgba: Rgba, path: Path) -> Rgba:
    alpha = rgba[..., 3]
    if not (alpha >= 255 * OPAQUE).any():
        raise InputError(
            f"{path}: expected an object, found no pixel that is at least half opaque; give another cut-out, or "
            "remove it"
        )
    left, top, width, height = cv2.boundingRect((alpha >= _FAINT).astype(np.uint8))
    rgba = rgba[top : top + height, left : left + width].copy()
    rgba[rgba[..., 3] < _FAINT, 3] = 0
    return rgba


def _feathered(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Alpha of a mask with a soft border, half opaque where the mask ends. Shape ``(H, W)``."""
    alpha: npt.NDArray[np.uint8] = cv2.GaussianBlur(
        mask.astype(np.uint8) * np.uint8(255), (0, 0), _FEATHER, borderType=cv2.BORDER_CONSTANT
    )
    return alpha


def _size(array: npt.NDArray[np.generic]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
