"""Strict readers of photographs and label maps: a broken or unexpected file is an error that names it."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from anomaly.errors import InputError
from anomaly.labels import Image, Label

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_PHOTO_MODES = ("RGB", "RGBA", "L", "P")
_LABEL_MODES = ("L", "P", "1", "I", "I;16", "I;16B")
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, struct.error, PillowImage.DecompressionBombError)


def read_image(path: Path, upright: bool = False) -> Image:
    """Read a photograph as the pixels that are stored in the file.

    An alpha channel is dropped, grey and palette photographs become RGB.

    Args:
        path: A JPEG, PNG or WebP file of 8 bits per channel.
        upright: Turn the photograph as its EXIF orientation says. Labels are drawn on the stored pixels, so one
            that has a label is never turned.

    Returns:
        RGB photograph. Shape: ``(H, W, 3)``, uint8.

    Raises:
        InputError: The file is missing, empty, truncated, not an image, or not of 8 bits per channel.
    """
    picture = decode(path)
    _check_mode(path, picture)
    if upright:
        picture = ImageOps.exif_transpose(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def check_image(path: Path) -> None:
    """Look at a photograph's head alone, which takes no time: what can be told from it is told before the work begins.

    Raises:
        InputError: As :func:`read_image`, except that the pixels are not decoded.
    """
    _check_mode(path, decode(path, head=True))


def _check_mode(path: Path, picture: PillowImage.Image) -> None:
    if picture.mode not in _PHOTO_MODES:
        raise InputError(
            f"{path}: expected an 8-bit RGB, RGBA, grey or palette photograph, found Pillow mode "
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
    """Add a signed difference to a photograph; what leaves 0..255 is cut there.

    Args:
        image: RGB photograph.
        path: A ``.npz`` file with one array ``rgb`` of integers.

    Returns:
        RGB photograph. Shape: ``(H, W, 3)``, uint8.

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
            f"{path}: expected integers of shape {image.shape}, as the photograph has, found {overlay.dtype} of shape "
            f"{overlay.shape}; get overlay and photograph as published"
        )
    return np.clip(image.astype(np.int32) + overlay, 0, 255).astype(np.uint8)


def find_photos(folder: Path, labelled: Iterable[str]) -> list[Path]:
    """List the photographs directly in a folder, in the order of their names; hidden files do not count.

    Args:
        folder: Where to look for files that end in one of ``PHOTO_SUFFIXES`` (in any case).
        labelled: Names (without suffix) of the frames that have a label, each of which needs a photograph.

    Raises:
        InputError: Two photographs share a name (``a.jpg`` and ``a.webp``), or a label has no photograph.
    """
    photos: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in PHOTO_SUFFIXES:
            continue
        if path.stem in photos:
            raise InputError(
                f"{folder}: expected one photograph named {path.stem!r}, found {photos[path.stem].name} and "
                f"{path.name}; remove one of them"
            )
        photos[path.stem] = path
    orphans = sorted(name for name in set(labelled) - set(photos) if not name.startswith("."))
    if orphans:
        raise InputError(
            f"{folder}: no photograph for the label {orphans[0]!r} ({len(orphans)} such labels); "
            f"expected one of {', '.join(orphans[0] + suffix for suffix in PHOTO_SUFFIXES)}; complete the set"
        )
    return list(photos.values())


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
