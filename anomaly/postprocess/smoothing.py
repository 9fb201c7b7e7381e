"""Smoothing that knows nothing of the photograph."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from anomaly.errors import InputError
from anomaly.labels import Score


def smooth(score: Score, *, sigma: float = 2.0) -> Score:
    """Gaussian smoothing; at the borders the mean is over what is there, so that no border is darkened.

    Args:
        score: Shape ``(H, W)``, float32.
        sigma: Standard deviation in pixels of the photograph, above 0 and at most 500; the kernel ends at 4 of them.

    Returns:
        Shape ``(H, W)``, float32.

    Raises:
        InputError: ``sigma`` is out of range.
    """
    if not 0 < sigma <= 500:
        raise InputError(f"smooth: expected sigma above 0 and at most 500 pixels, found {sigma}")
    kernel = cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma, cv2.CV_32F)

    def blur(values: Score) -> Score:
        return cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)

    return _normalised(score, blur)


def dilated_smoothing(score: Score, *, size: int = 7, sigma: float = 1.0, dilation: int = 6) -> Score:
    """Gaussian smoothing by a kernel whose taps lie apart: a wide reach for few taps, narrow bumps are kept less.

    The defaults are the published ones.

    Args:
        score: Shape ``(H, W)``, float32.
        size: Taps of the kernel in either direction, odd.
        sigma: Standard deviation in taps, above 0.
        dilation: Pixels from one tap to the next, 1 or more.

    Returns:
        Shape ``(H, W)``, float32.

    Raises:
        InputError: A parameter is out of range.

    Source: Jung et al., Standardized Max Logits (ICCV 2021), "dilated smoothing".
    """
    if size < 1 or size % 2 == 0 or not 0 < sigma <= 500 or not 1 <= dilation <= 500:
        raise InputError(
            "dilated_smoothing: expected an odd size, sigma above 0 and dilation from 1 (both at most 500), found "
            f"size={size}, sigma={sigma}, dilation={dilation}"
        )
    taps = cv2.getGaussianKernel(size, sigma, cv2.CV_32F)
    kernel = np.zeros(((size - 1) * dilation + 1, 1), np.float32)
    kernel[::dilation] = taps

    def blur(values: Score) -> Score:
        return cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)

    return _normalised(score, blur)


def _normalised(score: Score, blur: Callable[[Score], Score]) -> Score:
    """Mean over what is inside. Taken about the middle of the range, so that float32 keeps its digits."""
    middle = np.float32((float(score.min()) + float(score.max())) / 2)
    return blur(score - middle) / blur(np.ones_like(score)) + middle
