"""The steps of post-processing for score maps on a GPU, computed there.

Each function is the twin of the function of the same name in another module of this folder, which describes it and
checks its parameters. It computes in float64 as well; the results differ by rounding, less than 1e-6 of the range of a
map.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from anomaly.frames import Image
from anomaly.postprocessing.masks import class_indices, region


@torch.inference_mode()
def boundary(score: Tensor, classes: Any, *, width: int = 8) -> Tensor:
    """Replace scores along boundaries of the predicted classes by those of their surroundings, iteratively.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        classes: Class index that the network predicts for each pixel. Shape ``(H, W)``.
        width: Width of the boundary in pixels.
    """
    values = score.double()
    near = [_beside_another_class(torch.as_tensor(classes, device=score.device))]
    for _ in range(width // 2 - 1):  # all pixels at a city-block distance of 1, 2, ..., width / 2 or less
        near.append(_grown(near[-1]))
    for inside in reversed(near):
        outside = (~inside).double()
        total, count = _weighed(values * outside, [1.0] * 3), _weighed(outside, [1.0] * 3)
        values = torch.where(inside & (count > 0), total / count, values)
    return values.float()


@torch.inference_mode()
def smooth(score: Tensor, *, sigma: float = 2.0) -> Tensor:
    """Gaussian smoothing; at the borders only pixels inside the image are averaged.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        sigma: Standard deviation in pixels.
    """
    return _mean(score.double(), _gaussian(2 * int(4 * sigma + 0.5) + 1, sigma)).float()


@torch.inference_mode()
def dilated_smoothing(score: Tensor, *, size: int = 7, sigma: float = 1.0, dilation: int = 6) -> Tensor:
    """Gaussian smoothing with a dilated kernel.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        size: Number of taps of the kernel in each direction.
        sigma: Standard deviation in taps.
        dilation: Distance between two taps in pixels.
    """
    return _mean(score.double(), _gaussian(size, sigma), dilation).float()


@torch.inference_mode()
def guided(score: Tensor, image: Image, *, radius: int = 8, eps: float = 1e-3) -> Tensor:
    """Guided filter: within every window, the score is approximated by a linear function of the image brightness.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        image: RGB image that guides the filter. Shape ``(H, W, 3)``, uint8.
        radius: Pixels from the centre to each side of a window.
        eps: Variance of the brightness below which a window counts as flat.
    """
    grey = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    guide, values, box = grey.to(score.device).double() / 255, score.double(), [1.0] * (2 * radius + 1)
    mean, mean_score = _mean(guide, box), _mean(values, box)
    variance = (_mean(guide.square(), box) - mean.square()).clamp_min(0)
    slope = (_mean(guide * values, box) - mean * mean_score) / (variance + eps)
    offset = mean_score - slope * mean
    limits = np.finfo(np.float32)
    return (_mean(slope, box) * guide + _mean(offset, box)).clamp(float(limits.min), float(limits.max)).float()


@torch.inference_mode()
def roi(score: Tensor, frame: str, *, mask: Path) -> Tensor:
    """Set pixels outside a region of interest to the smallest score of the map.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        frame: Name of the frame.
        mask: Image file of the map's size, or a folder with one for each frame.

    Raises:
        InputError: The mask is missing, unreadable, of another size, or 0 everywhere.
    """
    inside = torch.from_numpy(region(tuple(score.shape), frame, mask)).to(score.device)
    return torch.where(inside, score, score.amin())


@torch.inference_mode()
def never(score: Tensor, classes: Any, class_names: tuple[str, ...], *, names: tuple[str, ...]) -> Tensor:
    """Set pixels of classes that are never anomalous to the smallest score of the map.

    Args:
        score: Score map. Shape ``(H, W)``, float32.
        classes: Class index that the network predicts for each pixel. Shape ``(H, W)``.
        class_names: Names of the network's classes, in order.
        names: Names of the classes that are never anomalous.

    Raises:
        InputError: ``names`` is empty, or holds a name that is not a class of the network.
    """
    left_out = torch.tensor(class_indices(class_names, names), device=score.device)
    return torch.where(torch.isin(torch.as_tensor(classes, device=score.device), left_out), score.amin(), score)


def _gaussian(size: int, sigma: float) -> list[float]:
    kernel: list[float] = cv2.getGaussianKernel(size, sigma, cv2.CV_64F)[:, 0].tolist()
    return kernel


def _mean(values: Tensor, kernel: Sequence[float], dilation: int = 1) -> Tensor:
    """Compute the mean weighted by the kernel, in both directions, over pixels inside the image."""
    for dim in (0, 1):
        inside = values.new_ones(values.shape[dim])
        weights = _weighed_along(inside, kernel, dilation, 0)
        values = _weighed_along(values, kernel, dilation, dim) / (weights[:, None] if dim == 0 else weights)
    return values


def _weighed(values: Tensor, kernel: Sequence[float]) -> Tensor:
    return _weighed_along(_weighed_along(values, kernel, 1, 0), kernel, 1, 1)


def _weighed_along(values: Tensor, kernel: Sequence[float], dilation: int, dim: int) -> Tensor:
    """Sum pixels weighted by the kernel along one direction; outside the image there is nothing to add."""
    total, length = torch.zeros_like(values), values.shape[dim]
    for tap, weight in enumerate(kernel):
        shift = (tap - len(kernel) // 2) * dilation
        count = length - abs(shift)
        if count > 0:
            part = values.narrow(dim, max(0, shift), count)
            total.narrow(dim, max(0, -shift), count).add_(part, alpha=weight)
    return total


def _beside_another_class(classes: Tensor) -> Tensor:
    """Pixels that share a side with a pixel of another class. Shape ``(H, W)``, bool."""
    found = torch.zeros_like(classes, dtype=torch.bool)
    across, down = classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found


def _grown(found: Tensor) -> Tensor:
    """Add the pixels that share a side with one of these. Shape ``(H, W)``, bool."""
    grown = found.clone()
    grown[:, 1:] |= found[:, :-1]
    grown[:, :-1] |= found[:, 1:]
    grown[1:] |= found[:-1]
    grown[:-1] |= found[1:]
    return grown
