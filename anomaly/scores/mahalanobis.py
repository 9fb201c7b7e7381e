"""Distances of features from Gaussians with one covariance for all classes."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import ROUNDING, cannot_be_fitted, rounding_of

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
    """``means (C, D)`` of the classes that occur, ``whitening (D, D)`` of the covariance within them.

    Ranks do not change where features are moved, rotated or all multiplied by one number; ``SHRINKAGE`` keeps them from
    being those of any affine map.

    Raises:
        InputError: All features of a class are the same, in every class.
    """
    return _fit_classes(sample, "mahalanobis")[0]


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
    """What :func:`fit_nearest` gives, and ``mean (D,)``, ``overall (D, D)`` of all pixels.

    Raises:
        InputError: As :func:`fit_nearest`, or all classes have one mean: both distances are one then.
    """
    features, weights = sample.rows("features"), sample.weights.double()
    found, within = _fit_classes(sample, "relative_mahalanobis")
    mean = weights @ features / weights.sum()
    covariance = _covariance(features - mean, weights)
    if covariance.trace() - within.trace() <= ROUNDING * covariance.trace():
        count = len(found["means"])
        expected = "classes that differ in the mean of their features"
        raise cannot_be_fitted(
            "relative_mahalanobis", expected, f"{count} with the same" if count > 1 else "pixels of one class alone"
        )
    return {**found, "mean": mean.float(), "overall": _whitening(covariance)}


def _fit_classes(sample: PixelSample, score: str) -> tuple[dict[str, Tensor], Tensor]:
    """Class means and whitening, and the covariance within classes ``(D, D)``."""
    features, weights = sample.rows("features"), sample.weights.double()
    means, own = _class_means(features, sample.labels, weights, sample.classes)
    covariance = _covariance(features - means[own], weights)
    if covariance.diagonal().mean().sqrt() <= rounding_of(features):
        expected = "pixels of a class that differ in their features"
        raise cannot_be_fitted(score, expected, f"{len(features)} pixels, those of a class all the same")
    return {"means": means.float(), "whitening": _whitening(covariance)}, covariance


def _class_means(features: Tensor, labels: Tensor, weights: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Means of the classes that occur ``(C, D)``, and each pixel's row among them ``(n,)``."""
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
    """Shape: ``(B, D, h, w)`` -> ``(B, h, w)``: the least over the means."""
    batch, dim, height, width = features.shape
    centre = means.mean(0).to(features)  # distances of nearby points: from a nearby origin
    flat = (features.movedim(1, -1).reshape(-1, dim).float() - centre) @ whitening.to(features)
    classes = (means.to(features) - centre) @ whitening.to(features)
    nearest = (classes.square().sum(1) - 2 * flat @ classes.T).argmin(1)
    return (flat - classes[nearest]).square().sum(1).view(batch, height, width)  # not as a small difference of squares
