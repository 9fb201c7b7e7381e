"""Blending of an object into an image: size, colours, sharpness and a soft border.

Colours are premultiplied with alpha wherever they are resampled or blurred, so that the colour behind a transparent
pixel never shows: an object has no halo.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.pasting.objects import OPAQUE, Rgba

Floats = npt.NDArray[np.float32]

_CONTRAST = 40.0  # grey levels between the sides of an edge that is clear enough to measure its sharpness
_SHARPEST = 0.9  # quantile of the edges' sharpness that stands for an image
_LEAST_GAINS = (0.7, 0.4, 0.4)  # of the spread of L, a and b: below, objects look foggy
_LARGEST_GAIN = 1.4
_SHADOW = 0.5  # share of the light that the shadow under an object takes
_FLATNESS = 0.2  # height of that shadow, as a share of the object's


def resized(rgba: Rgba, height: int, width: int) -> Floats:
    """Resize an object with antialiasing.

    Args:
        rgba: The object, not premultiplied.
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        Colours in 0..255, premultiplied, and alpha in 0..1. Shape ``(height, width, 4)``.
    """
    floats = rgba.astype(np.float32)
    floats[..., 3] /= 255
    floats[..., :3] *= floats[..., 3:]
    smaller = height <= rgba.shape[0] and width <= rgba.shape[1]
    result: Floats = cv2.resize(floats, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return result


def edge_width(image: Floats, where: npt.NDArray[np.bool_] | None = None) -> float | None:
    """Estimate the width of the sharpest edges of an image, a measure of its blur.

    At the middle of an edge between two grey levels that is blurred by a Gaussian of standard deviation ``s``, the
    gradient is their difference divided by ``s sqrt(2 pi)``. This gives the width of each clear edge; the result is the
    width that a tenth of them stay below. Differences between neighbouring pixels widen edges a little, in all images
    alike, so compare results only with each other.

    Args:
        image: RGB image, 0..255. Shape ``(H, W, 3)``.
        where: Pixels to consider. Shape ``(H, W)``.

    Returns:
        Standard deviation in pixels; ``None`` if no edge is clear.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    window = np.ones((7, 7), np.uint8)
    contrast = cv2.dilate(grey, window) - cv2.erode(grey, window)
    clear = contrast >= _CONTRAST if where is None else (contrast >= _CONTRAST) & where
    if not clear.any():
        return None
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    gradient = cv2.magnitude(cv2.filter2D(grey, -1, kernel), cv2.filter2D(grey, -1, kernel.T))
    steepest = float(np.quantile(gradient[clear] / contrast[clear], _SHARPEST))
    return 1 / (math.sqrt(2 * math.pi) * max(steepest, 1e-3))


def matched(colours: Floats, inside: npt.NDArray[np.bool_], around: Floats, strength: float) -> Floats:
    """Move an object's luminance and chroma towards those of its surroundings, in CIELAB.

    Mean and spread (standard deviation) of each channel move by the share ``strength`` of their difference.

    Args:
        colours: Colours of the object, not premultiplied, 0..255. Shape ``(h, w, 3)``.
        inside: Pixels of the object, which give its mean and spread. Shape ``(h, w)``.
        around: Colours of the surroundings. Shape ``(N, 3)``.
        strength: 0 leaves the object as it is, 1 gives it the mean and spread of the surroundings.

    Returns:
        The new colours. Shape ``(h, w, 3)``.
    """
    if not strength or not len(around) or not inside.any():
        return colours
    lab = cv2.cvtColor(colours / np.float32(255), cv2.COLOR_RGB2LAB)
    target = cv2.cvtColor(around[None] / np.float32(255), cv2.COLOR_RGB2LAB)[0].astype(np.float64)
    own = lab[inside].astype(np.float64)
    mean, gain = own.mean(0), target.std(0) / np.maximum(own.std(0), 1e-3)
    gain = 1 + strength * (np.clip(gain, _LEAST_GAINS, _LARGEST_GAIN) - 1)
    moved = (lab - mean) * gain + mean + strength * (target.mean(0) - mean)
    result: Floats = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.clip(result, 0, 1) * np.float32(255)


def blend(image: Floats, patch: Floats, top: int, left: int) -> None:
    """Blend an object into an image: ``colour * alpha + image * (1 - alpha)``. What lies outside is left out.

    Args:
        image: RGB image, 0..255, which changes. Shape ``(H, W, 3)``.
        patch: The object, premultiplied, of :func:`resized`. Shape ``(h, w, 4)``.
        top: Row of the patch's first row.
        left: Column of the patch's first column.
    """
    part, patch = _common(image, patch, top, left)
    part *= 1 - patch[..., 3:]
    part += patch[..., :3]


def cast_shadow(image: Floats, patch: Floats, top: int, left: int) -> None:
    """Darken the ground under an object by its flattened outline, as light from a cloudy sky does.

    Args:
        image: RGB image, 0..255, which changes. Shape ``(H, W, 3)``.
        patch: The object, premultiplied, of :func:`resized`. Shape ``(h, w, 4)``.
        top: Row of the patch's first row.
        left: Column of the patch's first column.
    """
    height, width = patch.shape[:2]
    flat = max(2, round(_FLATNESS * height))
    outline = cv2.resize(patch[..., 3], (width, flat), interpolation=cv2.INTER_AREA)
    shadow = cv2.GaussianBlur(
        cv2.copyMakeBorder(outline, flat, flat, flat, flat, cv2.BORDER_CONSTANT, value=0),
        (0, 0),
        flat / 4,
        borderType=cv2.BORDER_CONSTANT,
    )
    middle = top + height - flat // 2  # half of it lies in front of the object
    part, shadow = _common(image, shadow, middle - flat - flat // 4, left - flat)
    part *= 1 - np.float32(_SHADOW) * shadow[..., None]


def spread_alpha(patch: Floats, top: int, left: int, shape: tuple[int, int]) -> Floats:
    """Place the alpha of an object in a whole image.

    Args:
        patch: The object, premultiplied, of :func:`resized`. Shape ``(h, w, 4)``.
        top: Row of the patch's first row.
        left: Column of the patch's first column.
        shape: Height and width of the image.

    Returns:
        Alpha in 0..1, 0 where the object is not. Shape ``(H, W)``.
    """
    alpha = np.zeros(shape, np.float32)
    part, patch = _common(alpha, patch, top, left)
    part[:] = patch[..., 3]
    return alpha


def harmonised(
    image: Floats, patch: Floats, top: int, left: int, *, strength: float, edges: float | None
) -> tuple[Floats, int, int]:
    """Match an object's colours and sharpness to the image at the place where it will be.

    Args:
        image: RGB image, 0..255. Shape ``(H, W, 3)``.
        patch: The object, premultiplied, of :func:`resized`. Shape ``(h, w, 4)``.
        top: Row of the patch's first row.
        left: Column of the patch's first column.
        strength: How far colours are matched, 0..1 (:func:`matched`).
        edges: Width of the image's edges (:func:`edge_width`); ``None`` leaves the sharpness as it is.

    Returns:
        The object with a margin for its blur, and the place of its first row and column.
    """
    pad = max(4, round(max(patch.shape[:2]) / 4))
    patch = cv2.copyMakeBorder(patch, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    top, left, alpha = top - pad, left - pad, patch[..., 3]
    around = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((2 * pad + 1, 2 * pad + 1), np.uint8)) > 0
    surroundings, ring = _common(image, around & (alpha == 0), top, left)
    colours: Floats = (patch[..., :3] / np.maximum(alpha, 1e-6)[..., None]).astype(np.float32)
    patch[..., :3] = matched(colours, alpha >= OPAQUE, surroundings[ring], strength) * alpha[..., None]
    part, patch_there = _common(image, patch, top, left)
    if edges is not None and part.size:
        trial = part.copy()
        blend(trial, patch_there, 0, 0)
        near = cv2.dilate((patch_there[..., 3] >= OPAQUE).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        own = edge_width(trial, near)
        if own is not None and own < edges:
            blur = math.sqrt(edges**2 - own**2)
            patch = cv2.GaussianBlur(patch, (0, 0), blur, borderType=cv2.BORDER_CONSTANT)
    return patch, top, left


def _common(image: npt.NDArray, patch: npt.NDArray, top: int, left: int) -> tuple[npt.NDArray, npt.NDArray]:
    """Views of the part of an image that a patch covers, and of that part of the patch."""
    height, width = image.shape[:2]
    rows = slice(max(top, 0), max(0, min(top + patch.shape[0], height)))
    columns = slice(max(left, 0), max(0, min(left + patch.shape[1], width)))
    own = np.s_[rows.start - top : max(rows.stop - top, 0), columns.start - left : max(columns.stop - left, 0)]
    return image[rows, columns], patch[own]
