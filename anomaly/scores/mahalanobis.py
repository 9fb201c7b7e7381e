"""Mahalanobis distances of features to Gaussians that share one covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import ROUNDING, cannot_be_fitted, rounding_of

SHRINKAGE = 1e-3
"""Share of the mean variance that is added to every variance, so that the covariance is invertible."""


def nearest(features: Tensor, *, means: Tensor, whitening: Tensor) -> Tensor:
    """Squared Mahalanobis distance to the nearest class, ``min_c (f - mu_c)' S^-1 (f - mu_c)``.

    Args:
        features: Features, finite.
        means: Feature means of the classes that occur in training.
        whitening: Matrix W with ``W W' = S^-1``, where S is the covariance within classes.

    Shape:
        ``(B, D, h, w)``, ``(C, D)``, ``(D, D)`` -> ``(B, h, w)``.

    Returns:
        float32, at least 0, higher = more anomalous.

    Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples (NeurIPS 2018).
    """
    return _squared_distance(features, means, whitening)


def fit_nearest(sample: PixelSample) -> dict[str, Tensor]:
    """Compute class means and the whitening of the covariance within classes.

    Ranks are invariant under translations, rotations and a common scale of the features. Because of ``SHRINKAGE`` they
    are not invariant under every affine map.

    Args:
        sample: Training pixels.

    Returns:
        ``means (C, D)`` of the classes that occur, and ``whitening (D, D)``.

    Raises:
        InputError: In every class, all features are equal.
    """
    return _fit_classes(sample, "mahalanobis")[0]


def relative(features: Tensor, *, means: Tensor, whitening: Tensor, mean: Tensor, overall: Tensor) -> Tensor:
    """Squared distance to the nearest class, less the squared distance to a single Gaussian of all training pixels.

    Args:
        features: Features, finite.
        means: Feature means of the classes that occur in training.
        whitening: Matrix W with ``W W' = S^-1``, where S is the covariance within classes.
        mean: Feature mean of all training pixels.
        overall: The same kind of matrix for the covariance T of all training pixels.

    Shape:
        ``(B, D, h, w)``, ``(C, D)``, ``(D, D)``, ``(D,)``, ``(D, D)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Source: Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection (2021).
    """
    return _squared_distance(features, means, whitening) - _squared_distance(features, mean[None], overall)


def fit_relative(sample: PixelSample) -> dict[str, Tensor]:
    """Compute the statistics of :func:`fit_nearest`, and mean and whitening of all pixels.

    Args:
        sample: Training pixels.

    Returns:
        ``means (C, D)`` and ``whitening (D, D)`` of the classes, ``mean (D,)`` and ``overall (D, D)`` of all pixels.

    Raises:
        InputError: In every class all features are equal, or all classes have the same mean, so that both distances
            are equal.
    """
    features, weights = sample.rows("features"), sample.weights.double()
    statistics, within = _fit_classes(sample, "relative_mahalanobis")
    mean = weights @ features / weights.sum()
    covariance = _covariance(features - mean, weights)
    if covariance.trace() - within.trace() <= ROUNDING * covariance.trace():
        count = len(statistics["means"])
        expected = "classes that differ in the mean of their features"
        raise cannot_be_fitted(
            "relative_mahalanobis", expected, f"{count} with the same" if count > 1 else "pixels of one class alone"
        )
    return {**statistics, "mean": mean.float(), "overall": _whitening(covariance)}


def _fit_classes(sample: PixelSample, score: str) -> tuple[dict[str, Tensor], Tensor]:
    """Compute class means and whitening, and the covariance within classes ``(D, D)``."""
    features, weights = sample.rows("features"), sample.weights.double()
    means, own = _class_means(features, sample.labels, weights, sample.classes)
    covariance = _covariance(features - means[own], weights)
    if covariance.diagonal().mean().sqrt() <= rounding_of(features):
        expected = "pixels of a class that differ in their features"
        raise cannot_be_fitted(score, expected, f"{len(features)} pixels that are equal within each class")
    return {"means": means.float(), "whitening": _whitening(covariance)}, covariance


def _class_means(features: Tensor, labels: Tensor, weights: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Compute the means of the classes that occur, ``(C, D)``, and the row of each pixel's class, ``(n,)``."""
    present, own = labels.unique(return_inverse=True)
    mass = torch.zeros(len(present), dtype=torch.float64).index_add_(0, own, weights)
    sums = torch.zeros(len(present), features.shape[1], dtype=torch.float64)
    return sums.index_add_(0, own, weights[:, None] * features) / mass[:, None], own


def _covariance(deviations: Tensor, weights: Tensor) -> Tensor:
    return deviations.T @ (weights[:, None] * deviations) / weights.sum()


def _whitening(covariance: Tensor) -> Tensor:
    floor = SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    return torch.linalg.cholesky(torch.linalg.inv(covariance + floor)).float()


def _squared_distance(features: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """Compute the squared distance to the nearest mean. Shape ``(B, D, h, w)`` -> ``(B, h, w)``."""
    batch, dim, height, width = features.shape
    centre = means.mean(0).to(features)  # a nearby origin keeps small distances accurate
    flat = (features.movedim(1, -1).reshape(-1, dim).float() - centre) @ whitening.to(features)
    classes = (means.to(features) - centre) @ whitening.to(features)
    nearest = (classes.square().sum(1) - 2 * flat @ classes.T).argmin(1)
    return (flat - classes[nearest]).square().sum(1).view(batch, height, width)  # avoids a difference of squares
