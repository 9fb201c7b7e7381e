"""Sums of scores that have different scales, made comparable by how each is distributed over training pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.quantiles import weighted_quantiles
from anomaly.scores.spread import rounding_of

_ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)
LEVELS = torch.cat([_ENDS[:1], torch.linspace(-9, 9, 181, dtype=torch.float64).sigmoid(), _ENDS[1:]])
"""Ranks at which the distribution of a score is kept: denser towards both ends, which are there."""


def rank_average(scores: Tensor, *, quantiles: Tensor) -> Tensor:
    """Mean over scores of a pixel's rank among training pixels, their share with a lower score.

    Above the largest training score a rank goes on rising, by 1 for each distance from the median to that, or for a
    tenth of the training scores' range where that is more: what is beyond all training pixels is what anomalies should
    be told apart by. Below the smallest it falls alike. Between two of ``LEVELS`` ranks are linear in the score, so
    that a monotone map of a score changes them by less than these are apart, and one with a slope not at all.

    Args:
        scores: Finite.
        quantiles: Of each score on training pixels, at ``LEVELS``; the last is above the first.

    Shape:
        ``(S, B, h, w)`` and ``(S, 183)`` -> ``(B, h, w)``.

    Returns:
        float32, higher = more anomalous.
    """
    levels = LEVELS.float().to(scores.device)
    total = torch.zeros_like(scores[0], dtype=torch.float32)
    for score, knots in zip(scores.float(), quantiles.to(scores.device), strict=True):
        right = torch.searchsorted(knots, score.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[right - 1], knots[right]
        share = torch.where(high > low, (score - low) / (high - low), (score > low).float()).clamp(0, 1)
        rank = levels[right - 1] + share * (levels[right] - levels[right - 1])
        step = torch.maximum(knots[-1] - knots[len(knots) // 2], (knots[-1] - knots[0]) / 10)
        total += rank + ((score - knots[-1]) / step).clamp_min(0) - ((knots[0] - score) / step).clamp_min(0)
    return total / len(scores)


def zscore_sum(scores: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Sum over scores of ``(s - mean) / std``, both over training pixels, the deviation above 0.

    Shape:
        ``(S, B, h, w)``, ``(S,)``, ``(S,)`` -> ``(B, h, w)``.

    Returns:
        float32, higher = more anomalous.
    """
    mean, std = (each.to(scores)[:, None, None, None] for each in (mean, std))
    return ((scores.float() - mean) / std).sum(0)


def fit_distribution(score: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """How a score is distributed: ``quantiles (183,)`` at ``LEVELS``, ``mean ()`` and ``std ()``.

    Args:
        score: Of training pixels. Shape ``(n,)``.
        weights: How many pixels each stands for. Shape ``(n,)``.
    """
    score, weights = score.double(), weights.double()
    mean = (weights * score).sum() / weights.sum()
    variance = (weights * (score - mean).square()).sum() / weights.sum()
    quantiles = weighted_quantiles(score, weights, LEVELS)
    return {"quantiles": quantiles.float(), "mean": mean.float(), "std": variance.sqrt().float()}


def is_constant(quantiles: Tensor) -> bool:
    """Whether a score is the same on all training pixels, up to rounding: no other score can be added to it then."""
    return bool(quantiles[-1] - quantiles[0] <= rounding_of(quantiles))
