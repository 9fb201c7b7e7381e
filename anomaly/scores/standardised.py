"""Scores against what is usual for the predicted class on training photographs: mean and deviation of a value."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample


def sml(logits: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Standardized max logit, ``-(l_c* - mean_c*) / std_c*`` (Jung et al., ICCV 2021, eq. 4 and 5).

    Args:
        logits: Class logits of any float type, finite.
        mean: Of the largest logit of training pixels of each predicted class.
        std: Likewise, above 0.

    Shape:
        ``(B, C, h, w)``, ``(C,)``, ``(C,)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return _standardised(logits, mean, std)


def fit_sml(sample: PixelSample) -> dict[str, Tensor]:
    """``mean``, ``std (C,)`` of the largest logit by predicted class; of all pixels for a class never predicted."""
    return _moments(sample, "logits")


def nll(class_log_likelihood: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """The largest class log-likelihood likewise standardised, ``-(log p(x|c*) - mean_c*) / std_c*``.

    Args:
        class_log_likelihood: In nats, finite.
        mean: Of the largest log-likelihood of training pixels, by the class that has it.
        std: Likewise, above 0.

    Shape:
        ``(B, C, h, w)``, ``(C,)``, ``(C,)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return _standardised(class_log_likelihood, mean, std)


def fit_nll(sample: PixelSample) -> dict[str, Tensor]:
    """``mean``, ``std (C,)`` of the largest log-likelihood, as :func:`fit_sml`."""
    return _moments(sample, "class_log_likelihood")


def _standardised(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    best, winner = values.float().max(dim=1)
    mean, std = mean.to(best), std.to(best)
    return (mean[winner] - best) / std[winner]


def _moments(sample: PixelSample, name: str) -> dict[str, Tensor]:
    best, winner = sample.rows(name).max(dim=1)
    weights = sample.weights.double()

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(sample.classes, dtype=torch.float64).index_add_(0, winner, weights * values)

    mass = sums(torch.ones_like(best))
    overall = (weights * best).sum() / weights.sum()
    mean = torch.where(mass > 0, sums(best) / mass, overall)
    variance = torch.where(mass > 0, sums((best - mean[winner]).square()) / mass, 0)
    spread = (weights * (best - overall).square()).sum() / weights.sum()
    variance = torch.where(variance > 1e-6 * spread, variance, spread)  # a class of one pixel has no deviation
    return {"mean": mean.float(), "std": variance.clamp_min(1e-12).sqrt().float()}
