"""Scores that standardise a value with its mean and deviation over the training pixels of the predicted class."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import cannot_be_fitted, rounding_of

FEW = 20
"""Number of distinct values of a class up to which its standard deviation is not used."""


def sml(logits: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Negative standardised max logit, ``-(l_c* - mean_c*) / std_c*`` with ``c* = argmax_c l_c``.

    Args:
        logits: Class logits of any float type, finite.
        mean: Mean of the largest logit over the training pixels of each predicted class.
        std: Standard deviation of the largest logit over the same pixels, above 0.

    Shape:
        ``(B, C, h, w)``, ``(C,)``, ``(C,)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Source: Jung et al., Standardized Max Logits (ICCV 2021), eq. 4 and 5.
    """
    return _standardised(logits, mean, std)


def fit_sml(sample: PixelSample) -> dict[str, Tensor]:
    """Compute mean and standard deviation of the largest logit for each predicted class.

    A class that is never predicted gets the mean and deviation of all pixels. A class with at most ``FEW`` distinct
    values gets the deviation of all pixels.

    Args:
        sample: Training pixels.

    Returns:
        ``mean (C,)`` and ``std (C,)``.

    Raises:
        InputError: All pixels have the same largest logit.
    """
    return _moments(sample, "logits", "sml")


def nll(class_log_likelihood: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Negative standardised log-likelihood, ``-(log p(x|c*) - mean_c*) / std_c*`` with ``c* = argmax_c log p(x|c)``.

    Args:
        class_log_likelihood: Class log-likelihoods in nats, finite.
        mean: Mean of the largest log-likelihood over the training pixels of each likeliest class.
        std: Standard deviation of the largest log-likelihood over the same pixels, above 0.

    Shape:
        ``(B, C, h, w)``, ``(C,)``, ``(C,)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return _standardised(class_log_likelihood, mean, std)


def fit_nll(sample: PixelSample) -> dict[str, Tensor]:
    """Compute mean and standard deviation of the largest log-likelihood for each likeliest class.

    A class that is never the likeliest gets the mean and deviation of all pixels. A class with at most ``FEW`` distinct
    values gets the deviation of all pixels.

    Args:
        sample: Training pixels.

    Returns:
        ``mean (C,)`` and ``std (C,)``.

    Raises:
        InputError: All pixels have the same largest log-likelihood.
    """
    return _moments(sample, "class_log_likelihood", "standardised_nll")


def _standardised(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    best, winner = values.float().max(dim=1)
    mean, std = mean.to(best), std.to(best)
    return (mean[winner] - best) / std[winner]


def _moments(sample: PixelSample, field: str, score: str) -> dict[str, Tensor]:
    best, winner = sample.rows(field).max(dim=1)
    weights = sample.weights.double()

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(sample.classes, dtype=torch.float64).index_add_(0, winner, weights * values)

    mass = sums(torch.ones_like(best))
    overall = (weights * best).sum() / weights.sum()
    mean = torch.where(mass > 0, sums(best) / mass, overall)
    std = torch.where(mass > 0, sums((best - mean[winner]).square()) / mass, 0).sqrt()
    spread = ((weights * (best - overall).square()).sum() / weights.sum()).sqrt()
    if spread <= (least := rounding_of(best)):
        raise cannot_be_fitted(
            score, f"pixels that differ in their largest {field.replace('_', ' ')}", f"{len(best)} with {best[0]:.6g}"
        )
    different = torch.tensor([len(best[winner == k].unique()) for k in range(sample.classes)])
    std = torch.where((different > FEW) & (std > least), std, spread)
    return {"mean": mean.float(), "std": std.float()}
