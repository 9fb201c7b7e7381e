"""Balanced assignment of each class's pixels to its components."""

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
    r"""Assign each pixel to a component of its class so that the components share the class's pixels about equally.

    Starts from :math:`Q = \exp(\text{scores} / \epsilon)` and alternately scales, within each class, components to
    equal mass and pixels to equal mass (Sinkhorn-Knopp); each pixel then goes to its heaviest component, the first
    one on a tie. Masses are known up to a factor common to a class, which no pixel's choice depends on.

    Args:
        scores: Affinity of pixels to the components of their class, within [-1, 1] (see :func:`scale_to_unit`).
            Shape ``(n, P)``.
        classes: Class of every pixel, in ``[0, num_classes)``; without it all are of one. Shape ``(n,)``, int64.
        num_classes: C.
        epsilon: Temperature; smaller is sharper. In float32 not below 0.03: a pixel whose scores are all near -1 then
            has no weight left beside ``exp(2 / epsilon)`` times as much.
        iterations: Number of alternations.
        all_sum: Sums a ``(C, P)`` array over processes that hold a part of the pixels each.

    Returns:
        Index of the component. Shape ``(n,)``, int64.

    Source: Cuturi, Sinkhorn Distances (NeurIPS 2013); Liang et al., GMMSeg (NeurIPS 2022), eq. 9.
    """
    components = scores.shape[1]
    classes = torch.zeros(len(scores), dtype=torch.long, device=scores.device) if classes is None else classes
    transport = torch.exp(scores / epsilon)
    for _ in range(iterations):
        # in float64, so that the mass is the same however the pixels are spread over processes
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
    """Divide log-densities by the largest magnitude of their class, so that they lie in [-1, 1]; zeros stay zeros.

    Args:
        log_prob: Shape ``(n, P)``.
        classes: Class of every pixel; without it all are of one. Shape ``(n,)``, int64.
        num_classes: C.
        all_max: Takes the largest of a ``(C,)`` array over processes that hold a part of the pixels each.
    """
    classes = torch.zeros(len(log_prob), dtype=torch.long, device=log_prob.device) if classes is None else classes
    largest = log_prob.new_zeros(num_classes)
    largest = all_max(largest.scatter_reduce_(0, classes, log_prob.abs().amax(1), "amax"))
    return log_prob / torch.where(largest > 0, largest, 1)[classes, None]
