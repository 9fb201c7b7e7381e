"""Combinations of scores with different scales, made comparable by their distributions over training pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.quantiles import weighted_quantiles
from anomaly.scores.spread import rounding_of

_ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)
LEVELS = torch.cat([_ENDS[:1], torch.linspace(-9, 9, 181, dtype=torch.float64).sigmoid(), _ENDS[1:]])
"""Ranks at which the distribution of a score is stored, denser towards both ends; 0 and 1 are included."""


def rank_average(scores: Tensor, *, quantiles: Tensor) -> Tensor:
    """Average the ranks of a pixel over several scores; a rank is the share of training pixels with a lower score.

    Ranks continue beyond the training scores, because anomalies should be distinguishable there. Above the largest
    training score, a rank rises by 1 per step, where a step is the distance from the median to the largest score, or a
    tenth of the range of training scores if that is larger. Below the smallest training score it falls by 1 per step.
    Between two of ``LEVELS``, ranks are linear in the score. An affine map of a score does not change them, and any
    monotone map changes them by less than the distance of two levels.

    Args:
        scores: The scores, finite.
        quantiles: Quantiles of each score over training pixels, at ``LEVELS``; the last is above the first.

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
    """Sum several scores, each standardised on training pixels: ``sum_s (s - mean_s) / std_s``.

    Args:
        scores: The scores, finite.
        mean: Mean of each score over training pixels.
        std: Standard deviation of each score over training pixels, above 0.

    Shape:
        ``(S, B, h, w)``, ``(S,)``, ``(S,)`` -> ``(B, h, w)``.

    Returns:
        float32, higher = more anomalous.
    """
    mean, std = (each.to(scores)[:, None, None, None] for each in (mean, std))
    return ((scores.float() - mean) / std).sum(0)


def fit_distribution(score: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Compute the distribution of a score over training pixels.

    Args:
        score: Scores of training pixels. Shape ``(n,)``.
        weights: Number of pixels that each of them represents. Shape ``(n,)``.

    Returns:
        ``quantiles (183,)`` at ``LEVELS``, ``mean ()`` and ``std ()``, all float32.
    """
    score, weights = score.double(), weights.double()
    mean = (weights * score).sum() / weights.sum()
    variance = (weights * (score - mean).square()).sum() / weights.sum()
    quantiles = weighted_quantiles(score, weights, LEVELS)
    return {"quantiles": quantiles.float(), "mean": mean.float(), "std": variance.sqrt().float()}


def is_constant(quantiles: Tensor) -> bool:
    """Return whether a score is equal for all training pixels, up to rounding, and so cannot be combined.

    Args:
        quantiles: Quantiles of the score at ``LEVELS``.
    """
    return bool(quantiles[-1] - quantiles[0] <= rounding_of(quantiles))
