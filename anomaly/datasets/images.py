"""Strict readers of images and label maps: a broken or unexpected file is an error that names it."""

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
    *(".bmp", ".dib", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jpe", ".jfif", ".jp2", ".j2k"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".exr", ".hdr", ".dng"),
)
"""Of pictures that are not read, so that none is passed over in silence."""
_PHOTO_MODES = ("RGB", "RGBA", "L", "P")
_LABEL_MODES = ("L", "P", "1", "I", "I;16", "I;16B")
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, struct.error, PillowImage.DecompressionBombError)


def read_image(path: Path, upright: bool = False) -> Image:
    """Read an image as the pixels that are stored in the file.

    An alpha channel is dropped, grey and palette images become RGB.

    Args:
        path: A JPEG, PNG or WebP file of 8 bits per channel.
        upright: Turn the image as its EXIF orientation says. Labels are drawn on the stored pixels, so one
            that has a label is never turned.

    Returns:
        RGB image. Shape: ``(H, W, 3)``, uint8.

    Raises:
        InputError: The file is missing, empty, truncated, not an image, or not of 8 bits per channel.
    """
    picture = decode(path)
    _check_mode(path, picture)
    if upright:
        picture = ImageOps.exif_transpose(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def check_image(path: Path) -> None:
    """Look at an image's head alone, which takes no time: what can be told from it is told before the work begins.

    Raises:
        InputError: As :func:`read_image`, except that the pixels are not decoded.
    """
    _check_mode(path, decode(path, head=True))


def _check_mode(path: Path, picture: PillowImage.Image) -> None:
    if picture.mode not in _PHOTO_MODES:
        raise InputError(
            f"{path}: expected an 8-bit RGB, RGBA, grey or palette image, found Pillow mode "
            f"{picture.mode!r}; convert it to 8-bit RGB"
        )


def read_label(path: Path) -> Label:
    """Read a label map: one class id a pixel, as stored (of a palette PNG, the indices and not the colours).

    Args:
        path: A lossless single-channel file, in practice a PNG.

    Returns:
        The file's own values, not yet mapped to known / anomaly / ignore. Shape: ``(H, W)``, uint8.

    Raises:
        InputError: The file is missing, empty, truncated, not an image, has more than one channel, or holds
            values above 255.
    """
    picture = decode(path)
    if picture.mode not in _LABEL_MODES:
        raise InputError(
            f"{path}: expected a class-id map (one channel), found Pillow mode {picture.mode!r}; "
            "maybe this is the colour version of the label: give the file with the class ids"
        )
    values: npt.NDArray[np.generic] = np.array(picture)
    if values.dtype.itemsize > 1 and (values.min() < 0 or values.max() > 255):
        raise InputError(
            f"{path}: expected a class-id map with values 0 to 255, found {values.min()} to {values.max()}; "
            "maybe this is an instance or colour label: give the file with the class ids"
        )
    return values.astype(np.uint8, copy=False)


def add_overlay(image: Image, path: Path) -> Image:
    """Add a signed difference to an image; what leaves 0..255 is cut there.

    Args:
        image: RGB image.
        path: A ``.npz`` file with one array ``rgb`` of integers.

    Returns:
        RGB image. Shape: ``(H, W, 3)``, uint8.

    Raises:
        InputError: The file is missing, broken, holds no such array, or one of another size.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            overlay = arrays["rgb"]
    except (*_DECODER_ERRORS, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: expected a .npz file with an array 'rgb', found one that cannot be read ({error}); "
            "get the file again"
        ) from error
    if overlay.shape != image.shape or overlay.dtype.kind not in "iu":
        raise InputError(
            f"{path}: expected integers of shape {image.shape}, as the image has, found {overlay.dtype} of shape "
            f"{overlay.shape}; get overlay and image as published"
        )
    return np.clip(image.astype(np.int32) + overlay, 0, 255).astype(np.uint8)


def is_one_channel(path: Path) -> bool:
    """Whether an image file has one channel, as label maps have, by its header alone; not where that cannot be read."""
    try:
        with PillowImage.open(path) as picture:
            return picture.mode in _LABEL_MODES
    except _DECODER_ERRORS:
        return False


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image file, from its header alone; ``None`` where that cannot be read."""
    try:
        with PillowImage.open(path) as picture:
            return picture.size
    except _DECODER_ERRORS:
        return None


def decode(path: Path, head: bool = False) -> PillowImage.Image:
    """Decode every pixel of an image file, of any mode, or its head alone.

    Raises:
        InputError: The file is missing, empty, truncated or not an image.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected an image file, found none; check the path or complete the set")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected an image, found an empty file (0 bytes); get the file again")
    try:
        with PillowImage.open(path) as picture:
            if not head:
                picture.load()
            return picture
    except _DECODER_ERRORS as error:
        raise InputError(
            f"{path}: expected a whole image, found one that cannot be decoded ({error}); get the file again"
        ) from error
