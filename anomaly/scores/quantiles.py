"""Quantiles of weighted values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def weighted_quantiles(values: Tensor, weights: Tensor, levels: Sequence[float] | Tensor) -> Tensor:
    """Compute weighted quantiles, with linear interpolation between the centres of the values' weights.

    With equal weights it equals the method ``hazen`` of ``numpy.quantile``.

    Args:
        values: Values, at least one. Shape ``(n,)``.
        weights: Weight of each value, above 0. Shape ``(n,)``.
        levels: Levels in [0, 1]. Shape ``(q,)``.

    Returns:
        Quantiles. Shape ``(q,)``, float64.
    """
    values, order = values.double().sort()
    weights = weights.double()[order]
    middles = (weights.cumsum(0) - weights / 2) / weights.sum()
    levels = torch.as_tensor(levels, dtype=torch.float64)
    right = torch.searchsorted(middles, levels).clamp(1, max(len(values) - 1, 1))
    left, right = right - 1, right.clamp_max(len(values) - 1)
    width = (middles[right] - middles[left]).clamp_min(1e-300)
    share = ((levels - middles[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
