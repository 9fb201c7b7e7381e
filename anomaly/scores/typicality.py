"""How far a pixel's likelihood is from what is typical of its class: too small or too large."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.quantiles import weighted_quantiles
from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import cannot_be_fitted, rounding_of

LEVELS = (0.05, 0.5, 0.95)
FEW = 20
"""Different values of a class that tell nothing of its quantiles."""


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
    """``quantiles (C, 3)``; those of all pixels for a class that has at most ``FEW`` different values.

    Where so many values are equal that a tail has no width, it takes that of the other tail.

    Raises:
        InputError: 5 % and 95 % quantile of all pixels are the same.
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
    found = []
    for k in range(sample.classes):
        own = winner == k
        enough = len(best[own].unique()) > FEW
        quantiles = _quantiles(best[own], sample.weights[own], least) if enough else None
        found.append(everywhere if quantiles is None else quantiles)
    return {"quantiles": torch.stack(found).float()}


def _quantiles(values: Tensor, weights: Tensor, least: float) -> Tensor | None:
    """Those at ``LEVELS``, apart from each other by more than ``least``; None where all three are the same."""
    low, middle, high = weighted_quantiles(values, weights, LEVELS)
    below, above = middle - low, high - middle
    if max(below, above) <= least:
        return None
    below, above = (above if below <= least else below), (below if above <= least else above)
    return torch.stack([middle - below, middle, middle + above])
