"""Smoothing that does not use the image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ScoreMap


def smooth(score: ScoreMap, *, sigma: float = 2.0) -> ScoreMap:
    """Gaussian smoothing; at the borders only pixels inside the image are averaged, so that scores do not drop there.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        sigma: Standard deviation in pixels, above 0 and at most 500; the kernel ends at four standard deviations.

    Returns:
        Score map. Shape ``(H, W)``, float32.

    Raises:
        InputError: ``sigma`` is out of range.
    """
    if not 0 < sigma <= 500:
        raise InputError(f"smooth: expected sigma above 0 and at most 500 pixels, found {sigma}; correct it")
    return _filtered(score, cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma, cv2.CV_64F))


def dilated_smoothing(score: ScoreMap, *, size: int = 7, sigma: float = 1.0, dilation: int = 6) -> ScoreMap:
    """Gaussian smoothing with a dilated kernel, which covers a wide area with few taps.

    The defaults are those of the paper. At the borders only pixels inside the image are averaged; the published code
    repeats the outermost pixels.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        size: Number of taps of the kernel in each direction, odd, from 1 to 99.
        sigma: Standard deviation in taps, above 0 and at most 500.
        dilation: Distance between two taps in pixels, from 1 to 500.

    Returns:
        Score map. Shape ``(H, W)``, float32.

    Raises:
        InputError: A parameter is out of range.

    Source: Jung et al., Standardized Max Logits (ICCV 2021), "dilated smoothing".
    """
    if not 1 <= size <= 99 or size % 2 == 0 or not 0 < sigma <= 500 or not 1 <= dilation <= 500:
        raise InputError(
            "dilated_smoothing: expected an odd size from 1 to 99, sigma above 0 and dilation from 1 (both at most "
            f"500), found size={size}, sigma={sigma}, dilation={dilation}; correct them"
        )
    kernel = np.zeros(((size - 1) * dilation + 1, 1))
    kernel[::dilation] = cv2.getGaussianKernel(size, sigma, cv2.CV_64F)
    return _filtered(score, kernel)


def _filtered(score: ScoreMap, kernel: npt.NDArray[np.float64]) -> ScoreMap:
    """Compute the mean weighted by the kernel, in both directions, over pixels inside the image."""

    def blur(values: npt.NDArray[np.float64], across: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return cv2.sepFilter2D(values, cv2.CV_64F, across, kernel, borderType=cv2.BORDER_CONSTANT)

    rows, columns = (blur(np.ones((length, 1)), np.ones(1)) for length in score.shape)
    return (blur(score.astype(np.float64), kernel) / rows / columns.T).astype(np.float32)
