"""Scores against what is usual for the predicted class on training images: mean and deviation of a value."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import cannot_be_fitted, rounding_of

FEW = 20
"""Different values of a class that tell nothing of its deviation."""


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
    """``mean``, ``std (C,)`` of the largest logit by predicted class.

    A class never predicted takes both of all pixels, and one with at most ``FEW`` different values the deviation.

    Raises:
        InputError: The largest logit of all pixels is the same.
    """
    return _moments(sample, "logits", "sml")


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
    """``mean``, ``std (C,)`` of the largest log-likelihood, as :func:`fit_sml`.

    Raises:
        InputError: The largest log-likelihood of all pixels is the same.
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
