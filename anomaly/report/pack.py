"""Arrays as text for the page: lossless, small, and unpacked by a few lines of JavaScript."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def pack_bytes(data: bytes) -> str:
    """Encode as base64."""
    return base64.b64encode(data).decode("ascii")


def pack_picture(pixels: Bytes) -> str:
    """Encode an image as its :func:`residuals`, deflated (RFC 1950), in base64. Shape: ``(h, w)``, uint8."""
    return pack_bytes(zlib.compress(residuals(pixels).tobytes(), 6))


def pack_numbers(array: npt.NDArray[np.generic]) -> str:
    """Encode an array: all lowest bytes first, then all second bytes and so on, deflated, in base64."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(array.size, array.dtype.itemsize).T
    return pack_bytes(zlib.compress(planes.tobytes(), 6))


def residuals(pixels: Bytes) -> Bytes:
    """Prediction errors of an image, modulo 256.

    The prediction is the median of left, upper, and left + upper - upper left, as in JPEG-LS (Weinberger et al., IEEE
    Trans. Image Processing 2000, eq. 1). Pixels outside the image are 0. Shape: ``(h, w)``, uint8.
    """
    padded = np.pad(pixels.astype(np.int16), ((1, 0), (1, 0)))
    left, upper, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    low, high = np.minimum(left, upper), np.maximum(left, upper)
    predicted = np.clip(left + upper - corner, low, high)
    return ((padded[1:, 1:] - predicted) & 255).astype(np.uint8)
