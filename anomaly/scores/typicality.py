"""How far a pixel's likelihood is from what is typical of its class: too small or too large."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.quantiles import weighted_quantiles
from anomaly.scores.sample import PixelSample

LEVELS = (0.05, 0.5, 0.95)


def typicality(class_log_likelihood: Tensor, *, quantiles: Tensor) -> Tensor:
    """Distance of the largest log-likelihood from its class's median, in units of the way to a 5 % tail.

    Samples of a density in many dimensions do not lie where it is largest, so that a likelihood above the usual is
    as odd as one below (Nalisnick et al., Detecting Out-of-Distribution Inputs Using Typicality, 2019; here by the
    quantiles of each class in place of its entropy). 1 is the 5 % or the 95 % quantile.

    Args:
        class_log_likelihood: In nats, finite.
        quantiles: 5 %, 50 % and 95 % of the largest log-likelihood of training pixels, by the class that has it.

    Shape:
        ``(B, C, h, w)`` and ``(C, 3)`` -> ``(B, h, w)``.

    Returns:
        float32, at least 0, higher = more anomalous.
    """
    best, winner = class_log_likelihood.float().max(dim=1)
    low, middle, high = quantiles.to(best).unbind(1)
    away = best - middle[winner]
    return torch.where(away < 0, -away / (middle - low)[winner], away / (high - middle)[winner])


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """``quantiles (C, 3)``; those of all pixels for a class that has too few."""
    best, winner = sample.rows("class_log_likelihood").max(dim=1)
    found = []
    for k in range(sample.classes):
        own = winner == k
        own = own if len(best[own].unique()) > 20 else torch.ones_like(own)
        low, middle, high = weighted_quantiles(best[own], sample.weights[own], LEVELS)
        least = 1e-6 * max(1.0, float(middle.abs()))
        found.append(torch.stack([torch.minimum(low, middle - least), middle, torch.maximum(high, middle + least)]))
    return {"quantiles": torch.stack(found).float()}
