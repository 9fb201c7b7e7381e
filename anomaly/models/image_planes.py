"""An image beside the input of a network, so that a window or a mirrored view of one is that of the other."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def short_side(rgb: Tensor, size: int) -> Tensor:
    """Resize images so that their shorter side has a number of pixels (bilinear, antialiased).

    Args:
        rgb: Images. Shape ``(B, 3, h, w)``.
        size: Length of the shorter side in pixels.

    Returns:
        The images. Shape ``(B, 3, h', w')``, where the smaller of h' and w' is ``size``.
    """
    height, width = rgb.shape[2:]
    factor = size / min(height, width)
    return _resized(rgb, (max(1, round(height * factor)), max(1, round(width * factor))))


def _resized(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    return rgb if rgb.shape[2:] == size else F.interpolate(rgb, size, mode="bilinear", antialias=True)


def with_image(inputs: Tensor, rgb: Tensor, side: int) -> Tensor:
    """Add an image to the input of a network, so that views of the input are views of the image too.

    The image may need more pixels than the input. It is resized to r times as many rows and columns, and its r x r
    pixels for each pixel of the input become channels. One more channel grows from left to right, so that
    :func:`image_of` can tell mirrored views.

    Args:
        inputs: The network's input. Shape ``(3, h, w)``.
        rgb: The image, 0 to 255. Shape ``(1, 3, H, W)``.
        side: Largest number of pixels that a backbone needs along the short side; r is the smallest that suffices.

    Returns:
        The input with the image. Shape ``(3 + 3 r r + 1, h, w)``.
    """
    height, width = inputs.shape[1:]
    fine = math.ceil(side / min(height, width))
    planes = F.pixel_unshuffle(_resized(rgb, (fine * height, fine * width)), fine)[0]
    ramp = torch.arange(width, dtype=torch.float32).expand(1, height, width)
    return torch.cat([inputs, planes.to(inputs.device), ramp.to(inputs.device)])


def image_of(inputs: Tensor) -> Tensor:
    """The image that :func:`with_image` added, mirrored if the inputs are.

    Args:
        inputs: Views of such inputs. Shape ``(B, 3 + 3 r r + 1, h, w)``.

    Returns:
        RGB, 0 to 255. Shape ``(B, 3, r h, r w)``.
    """
    planes, ramp = inputs[:, 3:-1], inputs[:, -1, 0]
    fine = math.isqrt(planes.shape[1] // 3)
    mirrored = ramp[:, 0] > ramp[:, -1]
    cells = planes.unflatten(1, (3, fine, fine))
    cells = torch.where(mirrored[:, None, None, None, None, None], cells.flip(3), cells)
    return F.pixel_shuffle(cells.flatten(1, 3), fine)
