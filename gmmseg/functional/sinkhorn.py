"""Balanced assignment of the pixels of each class to its components."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _itself(values: Tensor) -> Tensor:
    return values


@torch.no_grad()
def sinkhorn_assign(
    scores: Tensor,
    classes: Tensor | None = None,
    num_classes: int = 1,
    epsilon: float = 0.05,
    iterations: int = 3,
    all_sum: Callable[[Tensor], Tensor] = _itself,
) -> Tensor:
    r"""Assign each pixel to a component of its class, so that components get about equally many pixels.

    The Sinkhorn-Knopp algorithm starts from :math:`Q = \exp(\text{scores} / \epsilon)`. Within each class it
    alternately scales components to equal mass and pixels to equal mass. Each pixel then goes to its heaviest
    component, the first one on a tie. Masses are relative to their class; a common factor changes no assignment.

    Args:
        scores: Affinity of pixels to the components of their class, within [-1, 1] (see :func:`scale_to_unit`).
            Shape ``(n, P)``.
        classes: Class of every pixel, in ``[0, num_classes)``; ``None`` puts all pixels in one class. Shape ``(n,)``,
            int64.
        num_classes: Number of classes, C.
        epsilon: Temperature; smaller is sharper. Use at least 0.03 in float32: weights differ by up to
            ``exp(2 / epsilon)``, and a pixel whose scores are all near -1 underflows below that.
        iterations: Number of iterations.
        all_sum: Sums a ``(C, P)`` array over processes, if each holds a part of the pixels.

    Returns:
        Index of each pixel's component, in ``[0, P)``. Shape ``(n,)``, int64.

    Source: Cuturi, Sinkhorn Distances (NeurIPS 2013); Liang et al., GMMSeg (NeurIPS 2022), eq. 9.
    """
    components = scores.shape[1]
    classes = torch.zeros(len(scores), dtype=torch.long, device=scores.device) if classes is None else classes
    transport = torch.exp(scores / epsilon)
    for _ in range(iterations):
        # In float64, so that the mass does not depend on how the pixels are spread over processes.
        mass = transport.new_zeros((num_classes, components), dtype=torch.float64)
        mass = all_sum(mass.index_add_(0, classes, transport.double()))
        transport = transport / mass.to(transport.dtype)[classes]
        transport = transport / transport.sum(1, keepdim=True)
    return transport.argmax(1)


@torch.no_grad()
def scale_to_unit(
    log_prob: Tensor,
    classes: Tensor | None = None,
    num_classes: int = 1,
    all_max: Callable[[Tensor], Tensor] = _itself,
) -> Tensor:
    """Divide log-densities by the largest magnitude of their class, so that they lie in [-1, 1].

    A class whose values are all 0 stays 0.

    Args:
        log_prob: Log-densities of the components of each pixel's class. Shape ``(n, P)``.
        classes: Class of every pixel, in ``[0, num_classes)``; ``None`` puts all pixels in one class. Shape ``(n,)``,
            int64.
        num_classes: Number of classes, C.
        all_max: Takes the maximum of a ``(C,)`` array over processes, if each holds a part of the pixels.

    Returns:
        Scaled log-densities. Shape ``(n, P)``.
    """
    classes = torch.zeros(len(log_prob), dtype=torch.long, device=log_prob.device) if classes is None else classes
    largest = log_prob.new_zeros(num_classes)
    largest = all_max(largest.scatter_reduce_(0, classes, log_prob.abs().amax(1), "amax"))
    return log_prob / torch.where(largest > 0, largest, 1)[classes, None]
