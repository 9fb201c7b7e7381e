"""Distance of a pixel's likelihood from the typical likelihood of its class, below or above it."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.quantiles import weighted_quantiles
from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import cannot_be_fitted, rounding_of

LEVELS = (0.05, 0.5, 0.95)
FEW = 20
"""Number of distinct values of a class up to which its quantiles are not used."""


def typicality(class_log_likelihood: Tensor, *, quantiles: Tensor) -> Tensor:
    """Distance of the largest log-likelihood from its class's median, relative to that of the 5 % or 95 % quantile.

    In many dimensions, samples of a density do not lie where it is largest. An unusually high likelihood is therefore
    as suspicious as an unusually low one. The paper compares with the entropy; here the quantiles of each class are
    used. The score is 1 at the 5 % and at the 95 % quantile.

    Args:
        class_log_likelihood: Class log-likelihoods in nats, finite.
        quantiles: 5 %, 50 % and 95 % quantile of the largest log-likelihood over the training pixels of each likeliest
            class.

    Shape:
        ``(B, C, h, w)`` and ``(C, 3)`` -> ``(B, h, w)``.

    Returns:
        float32, at least 0, higher = more anomalous.

    Source: Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (2019).
    """
    best, winner = class_log_likelihood.float().max(dim=1)
    low, middle, high = quantiles.to(best).unbind(1)
    away = best - middle[winner]
    return torch.where(away < 0, -away / (middle - low)[winner], away / (high - middle)[winner])


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """Compute the quantiles of the largest log-likelihood for each likeliest class.

    A class with at most ``FEW`` distinct values gets the quantiles of all pixels. If many equal values leave a tail
    without width, it gets the width of the other tail.

    Args:
        sample: Training pixels.

    Returns:
        ``quantiles (C, 3)``.

    Raises:
        InputError: The 5 % and the 95 % quantile of all pixels are equal.
    """
    best, winner = sample.rows("class_log_likelihood").max(dim=1)
    least = rounding_of(best)
    everywhere = _quantiles(best, sample.weights, least)
    if everywhere is None:
        raise cannot_be_fitted(
            "typicality",
            "pixels that differ in their largest class log likelihood",
            f"{len(best)} of which nine in ten have {best.median():.6g}",
        )
    by_class = []
    for k in range(sample.classes):
        own = winner == k
        enough = len(best[own].unique()) > FEW
        quantiles = _quantiles(best[own], sample.weights[own], least) if enough else None
        by_class.append(everywhere if quantiles is None else quantiles)
    return {"quantiles": torch.stack(by_class).float()}


def _quantiles(values: Tensor, weights: Tensor, least: float) -> Tensor | None:
    """Compute quantiles at ``LEVELS`` that differ by more than ``least``; ``None`` if all three are equal."""
    low, middle, high = weighted_quantiles(values, weights, LEVELS)
    below, above = middle - low, high - middle
    if max(below, above) <= least:
        return None
    below, above = (above if below <= least else below), (below if above <= least else above)
    return torch.stack([middle - below, middle, middle + above])
