"""Moments of stored features, from their running sums."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def direction_and_variance(sums: Tensor, square_sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute the mean direction of unit vectors, and their variance about it.

    The direction is :math:`\mu = \sum_i x_i / \lVert \sum_i x_i \rVert`. The variance is taken about that unit
    vector, not about the mean, which is shorter. Per dimension it is
    :math:`\frac1n \sum_i (x_i - \mu)^2 = \frac1n \sum_i x_i^2 - 2 \mu \bar{x} + \mu^2`. Sums in float64 keep it
    accurate enough to stay positive.

    Args:
        sums: Sum of the features. Shape ``(G, D)``.
        square_sums: Sum of their squares. Shape ``(G, D)``.
        counts: Number of features summed, at least 1. Shape ``(G,)``.

    Returns:
        Unit directions and biased variances, both ``(G, D)``.

    Source: the published code of Liang et al., GMMSeg (NeurIPS 2022), for the M-step of eq. 8.
    """
    n = counts[:, None].to(sums.dtype)
    direction = F.normalize(sums, dim=1)
    variance = square_sums / n - 2 * direction * (sums / n) + direction.square()
    return direction, variance.clamp_min(0)
