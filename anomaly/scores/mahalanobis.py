"""Distances of features from Gaussians with one covariance for all classes."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample

SHRINKAGE = 1e-3
"""Share of the mean variance that is added to every variance, so that a covariance can be inverted."""


def nearest(features: Tensor, *, means: Tensor, whitening: Tensor) -> Tensor:
    """Squared Mahalanobis distance to the nearest class, ``min_c (f - mu_c)' S^-1 (f - mu_c)`` (Lee et al., 2018).

    Args:
        features: Finite.
        means: Of the classes that occur in training.
        whitening: W with ``W W' = S^-1``, S the covariance within classes.

    Shape:
        ``(B, D, h, w)``, ``(C, D)``, ``(D, D)`` -> ``(B, h, w)``.

    Returns:
        float32, at least 0, higher = more anomalous.
    """
    return _squared_distance(features, means, whitening)


def fit_nearest(sample: PixelSample) -> dict[str, Tensor]:
    """``means (C, D)`` of the classes that occur, ``whitening (D, D)`` of the covariance within them."""
    features, weights = sample.rows("features"), sample.weights.double()
    means, own = _class_means(features, sample.labels, weights, sample.classes)
    return {"means": means.float(), "whitening": _whitening(features - means[own], weights)}


def relative(features: Tensor, *, means: Tensor, whitening: Tensor, mean: Tensor, overall: Tensor) -> Tensor:
    """The same less the squared distance from one Gaussian of all pixels (Ren et al., A Simple Fix, 2021).

    Args:
        features: Finite.
        means: As :func:`nearest`.
        whitening: As :func:`nearest`.
        mean: Of all training pixels.
        overall: W of their covariance.

    Shape:
        ``(B, D, h, w)``, ``(C, D)``, ``(D, D)``, ``(D,)``, ``(D, D)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return _squared_distance(features, means, whitening) - _squared_distance(features, mean[None], overall)


def fit_relative(sample: PixelSample) -> dict[str, Tensor]:
    """What :func:`fit_nearest` gives, and ``mean (D,)``, ``overall (D, D)`` of all pixels."""
    features, weights = sample.rows("features"), sample.weights.double()
    mean = weights @ features / weights.sum()
    overall = _whitening(features - mean, weights)
    return {**fit_nearest(sample), "mean": mean.float(), "overall": overall}


def _class_means(features: Tensor, labels: Tensor, weights: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Means of the classes that occur ``(C, D)``, and each pixel's row among them ``(n,)``."""
    present, own = labels.unique(return_inverse=True)
    mass = torch.zeros(len(present), dtype=torch.float64).index_add_(0, own, weights)
    sums = torch.zeros(len(present), features.shape[1], dtype=torch.float64)
    return sums.index_add_(0, own, weights[:, None] * features) / mass[:, None], own


def _whitening(deviations: Tensor, weights: Tensor) -> Tensor:
    covariance = deviations.T @ (weights[:, None] * deviations) / weights.sum()
    floor = SHRINKAGE * covariance.diagonal().mean().clamp_min(1e-12)
    covariance.diagonal().add_(floor)
    return torch.linalg.cholesky(torch.linalg.inv(covariance)).float()


def _squared_distance(features: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """Shape: ``(B, D, h, w)`` -> ``(B, h, w)``: the least over the means."""
    batch, dim, height, width = features.shape
    centre = means.mean(0).to(features)  # distances of nearby points: from a nearby origin
    flat = (features.movedim(1, -1).reshape(-1, dim).float() - centre) @ whitening.to(features)
    classes = (means.to(features) - centre) @ whitening.to(features)
    squares = flat.square().sum(1, keepdim=True) - 2 * flat @ classes.T + classes.square().sum(1)
    return squares.amin(1).clamp_min(0).view(batch, height, width)
