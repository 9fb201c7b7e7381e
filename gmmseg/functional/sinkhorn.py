"""Balanced assignment of a class's pixels to its components."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn_assign(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    r"""Assign each of n pixels to one of P components so that the components share the pixels about equally.

    Starts from :math:`Q = \exp(\text{scores} / \epsilon)` and alternately scales components to equal mass
    :math:`1/P` and pixels to equal mass :math:`1/n` (Sinkhorn-Knopp); each pixel then goes to its heaviest
    component, the first one on a tie.

    Args:
        scores: Affinity of pixels to components, within [-1, 1] (see :func:`scale_to_unit`). Shape ``(n, P)``.
        epsilon: Temperature; smaller is sharper. In float32 not below 0.03: a pixel whose scores are all near -1 then
            has no weight left beside ``exp(2 / epsilon)`` times as much.
        iterations: Number of alternations.

    Returns:
        Index of the component. Shape ``(n,)``, int64.

    Source: Cuturi, Sinkhorn Distances (NeurIPS 2013); Liang et al., GMMSeg (NeurIPS 2022), eq. 9.
    """
    n, components = scores.shape
    transport = torch.exp(scores / epsilon)
    transport = transport / transport.sum()
    for _ in range(iterations):
        transport = transport / (transport.sum(0, keepdim=True) * components)
        transport = transport / (transport.sum(1, keepdim=True) * n)
    return transport.argmax(1)


def scale_to_unit(log_prob: Tensor) -> Tensor:
    """Divide log-densities by their largest magnitude, so that they lie in [-1, 1]; all zeros stay zeros.

    Args:
        log_prob: Any shape, not empty.
    """
    largest = log_prob.abs().max()
    return log_prob / torch.where(largest > 0, largest, torch.ones_like(largest))
