"""Smoothing that knows nothing of the image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ScoreMap


def smooth(score: ScoreMap, *, sigma: float = 2.0) -> ScoreMap:
    """Gaussian smoothing; at the borders the mean is over what is there, so that no border is darkened.

    Args:
        score: Shape ``(H, W)``, float32.
        sigma: Standard deviation in pixels of the image, above 0 and at most 500; the kernel ends at 4 of them.

    Returns:
        Shape ``(H, W)``, float32.

    Raises:
        InputError: ``sigma`` is out of range.
    """
    if not 0 < sigma <= 500:
        raise InputError(f"smooth: expected sigma above 0 and at most 500 pixels, found {sigma}")
    return _filtered(score, cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma, cv2.CV_64F))


def dilated_smoothing(score: ScoreMap, *, size: int = 7, sigma: float = 1.0, dilation: int = 6) -> ScoreMap:
    """Gaussian smoothing by a kernel whose taps lie apart: a wide reach for few taps, narrow bumps are kept less.

    The defaults are the published ones. At the borders the mean is over what is there; the published code repeats the
    outermost pixels.

    Args:
        score: Shape ``(H, W)``, float32.
        size: Taps of the kernel in either direction, odd, 1 to 99.
        sigma: Standard deviation in taps, above 0 and at most 500.
        dilation: Pixels from one tap to the next, 1 to 500.

    Returns:
        Shape ``(H, W)``, float32.

    Raises:
        InputError: A parameter is out of range.

    Source: Jung et al., Standardized Max Logits (ICCV 2021), "dilated smoothing".
    """
    if not 1 <= size <= 99 or size % 2 == 0 or not 0 < sigma <= 500 or not 1 <= dilation <= 500:
        raise InputError(
            "dilated_smoothing: expected an odd size from 1 to 99, sigma above 0 and dilation from 1 (both at most "
            f"500), found size={size}, sigma={sigma}, dilation={dilation}"
        )
    kernel = np.zeros(((size - 1) * dilation + 1, 1))
    kernel[::dilation] = cv2.getGaussianKernel(size, sigma, cv2.CV_64F)
    return _filtered(score, kernel)


def _filtered(score: ScoreMap, kernel: npt.NDArray[np.float64]) -> ScoreMap:
    """Weighted mean by the kernel, in both directions, over what is inside."""

    def blur(values: npt.NDArray[np.float64], across: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return cv2.sepFilter2D(values, cv2.CV_64F, across, kernel, borderType=cv2.BORDER_CONSTANT)

    rows, columns = (blur(np.ones((length, 1)), np.ones(1)) for length in score.shape)
    return (blur(score.astype(np.float64), kernel) / rows / columns.T).astype(np.float32)
