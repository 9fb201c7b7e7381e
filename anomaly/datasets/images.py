"""Strict readers of images and label maps, which raise an error that names a broken or unexpected file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from anomaly.errors import InputError
from anomaly.frames import Image, Label

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
UNREAD_SUFFIXES = (
    ".bmp",
    ".dib",
    ".gif",
    ".tif",
    ".tiff",
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jpe",
    ".jfif",
    ".jp2",
    ".j2k",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".tga",
    ".exr",
    ".hdr",
    ".dng",
)
"""Suffixes of image formats that are not supported, so that such files are reported and not skipped."""
_PHOTO_MODES = ("RGB", "RGBA", "L", "P")
_LABEL_MODES = ("L", "P", "1", "I", "I;16", "I;16B")
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, struct.error, PillowImage.DecompressionBombError)


def read_image(path: Path, upright: bool = False) -> Image:
    """Read the pixels of an image as they are stored in the file.

    An alpha channel is dropped; grey and palette images become RGB.

    Args:
        path: A JPEG, PNG or WebP file with 8 bits per channel.
        upright: Rotate the image according to its EXIF orientation. Labels refer to the stored pixels, so do not
            rotate an image that has a label.

    Returns:
        RGB image. Shape ``(H, W, 3)``, uint8.

    Raises:
        InputError: The file is missing, empty, truncated, not an image, or does not have 8 bits per channel.
    """
    picture = decode(path)
    _check_mode(path, picture)
    if upright:
        picture = ImageOps.exif_transpose(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def check_image(path: Path) -> None:
    """Check the header of an image file, which is fast, to report faults before the work begins.

    Raises:
        InputError: The file is missing, empty, not an image, or does not have 8 bits per channel. Truncated pixels are
            not detected.
    """
    _check_mode(path, decode(path, head=True))


def _check_mode(path: Path, picture: PillowImage.Image) -> None:
    if picture.mode not in _PHOTO_MODES:
        raise InputError(
            f"{path}: expected an 8-bit RGB, RGBA, grey or palette image, found Pillow mode "
            f"{picture.mode!r}; convert it to 8-bit RGB"
        )


def read_label(path: Path) -> Label:
    """Read a label map with one class index per pixel; of a palette PNG, the indices and not the colours.

    Args:
        path: A lossless file with one channel, usually a PNG.

    Returns:
        The values in the file, not mapped to known, anomaly and ignore. Shape ``(H, W)``, uint8.

    Raises:
        InputError: The file is missing, empty, truncated, not an image, has more than one channel, or holds a value
            outside 0..255.
    """
    picture = decode(path)
    if picture.mode not in _LABEL_MODES:
        raise InputError(
            f"{path}: expected a map of class indices (one channel), found Pillow mode {picture.mode!r}; this may be "
            "the colour version of the label, use the file with class indices"
        )
    values: npt.NDArray[np.generic] = np.array(picture)
    if values.dtype.itemsize > 1 and (values.min() < 0 or values.max() > 255):
        raise InputError(
            f"{path}: expected a map of class indices from 0 to 255, found values from {values.min()} to "
            f"{values.max()}; this may be an instance or colour label, use the file with class indices"
        )
    return values.astype(np.uint8, copy=False)


def add_overlay(image: Image, path: Path) -> Image:
    """Add a signed difference to an image, and clip the result to 0..255.

    Args:
        image: RGB image. Shape ``(H, W, 3)``, uint8.
        path: A ``.npz`` file with one array ``rgb`` of integers.

    Returns:
        RGB image. Shape ``(H, W, 3)``, uint8.

    Raises:
        InputError: The file is missing or broken, holds no such array, or one of another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            overlay = arrays["rgb"]
    except (*_DECODER_ERRORS, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: expected a .npz file with an array 'rgb', found one that cannot be read ({error}); get the file "
            "again"
        ) from error
    if overlay.shape != image.shape or overlay.dtype.kind not in "iu":
        raise InputError(
            f"{path}: expected integers of shape {image.shape}, like the image, found {overlay.dtype} of shape "
            f"{overlay.shape}; use overlay and image as published"
        )
    return np.clip(image.astype(np.int32) + overlay, 0, 255).astype(np.uint8)


def is_one_channel(path: Path) -> bool:
    """Return whether an image file has one channel, like label maps, by its header; False if it cannot be read."""
    try:
        with PillowImage.open(path) as picture:
            return picture.mode in _LABEL_MODES
    except _DECODER_ERRORS:
        return False


def image_size(path: Path) -> tuple[int, int] | None:
    """Read width and height of an image file from its header; ``None`` if it cannot be read."""
    try:
        with PillowImage.open(path) as picture:
            return picture.size
    except _DECODER_ERRORS:
        return None


def decode(path: Path, head: bool = False) -> PillowImage.Image:
    """Decode an image file of any mode.

    Args:
        path: The file.
        head: Decode only the header, not the pixels.

    Raises:
        InputError: The file is missing, empty, truncated or not an image.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected an image file, found none; check the path or complete the dataset")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected an image, found an empty file (0 bytes); get the file again")
    try:
        with PillowImage.open(path) as picture:
            if not head:
                picture.load()
            return picture
    except _DECODER_ERRORS as error:
        raise InputError(
            f"{path}: expected a complete image, found one that cannot be decoded ({error}); get the file again"
        ) from error
