"""Every score of the table in float64, by numpy, scipy and scikit-learn: a new one gets its line in ``ORACLES``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors


@dataclass(frozen=True)
class Pixels:
    """What a network says of N labelled pixels, of C classes with P components each, in float64.

    Shape:
        ``likelihood (N, C)``, ``outliers (N)``, ``log_prob (N, C, P)``, ``logits (N, C)``, ``features (N, D)``,
        ``labels (N)``, ``weights (N)``: how many pixels each stands for, ``means`` and ``stds (C, P, D)``;
        ``coreset (K, D)``: what ``knn`` kept.
    """

    likelihood: np.ndarray
    outliers: np.ndarray
    log_prob: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    coreset: np.ndarray | None

    @property
    def probability(self) -> np.ndarray:
        return softmax(self.logits, axis=1)

    def of_class(self, values: np.ndarray, classes: np.ndarray, figure: Callable) -> np.ndarray:
        """A figure of the pixels of each class, ``figure(values, weights)``. Shape: ``(C, ...)``."""
        places = [classes == c for c in range(self.likelihood.shape[1])]
        return np.array([figure(values[place], self.weights[place]) for place in places])


def mean(values, weights):
    return np.average(values, axis=0, weights=weights)


def variance(values, weights):
    return mean((values - mean(values, weights)) ** 2, weights)


def lead(values):
    """How far the largest of a row is above the second."""
    ordered = np.sort(values, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def empirical(x):
    share = x.of_class(x.weights, x.labels, lambda values, _: values.sum()) / x.weights.sum()
    return -logsumexp(np.log(share) + x.likelihood, axis=1)


def tails(values, weights):
    """5 %, 50 % and 95 % of the weight, each value in the middle of its own."""
    order = np.argsort(values)
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return np.interp(np.array([0.05, 0.5, 0.95]) * weights.sum(), middles, values[order])


def typicality(x):
    best, winner = x.likelihood.max(1), x.likelihood.argmax(1)
    q = x.of_class(best, winner, tails)[winner]
    below, above = (q[:, 1] - best) / (q[:, 1] - q[:, 0]), (best - q[:, 1]) / (q[:, 2] - q[:, 1])
    return np.where(best < q[:, 1], below, above)


def standardised(x, maps):
    value, winner = maps.max(1), maps.argmax(1)
    centre, spread = (x.of_class(value, winner, figure)[winner] for figure in (mean, variance))
    return -(value - centre) / np.sqrt(spread)


def squared_distances(x, fitted_to, deviations):
    """Mahalanobis distances under the covariance of ``fitted_to (N, D)``, each pixel as often as its weight says."""
    pixels = np.repeat(fitted_to, x.weights.astype(int), axis=0)
    covariance = EmpiricalCovariance(assume_centered=True).fit(pixels).covariance_
    covariance = covariance + 1e-3 * np.mean(np.diag(covariance)) * np.eye(len(covariance))
    return np.einsum("...d,de,...e->...", deviations, np.linalg.inv(covariance), deviations)


def mahalanobis(x):
    means = x.of_class(x.features, x.labels, mean)
    return squared_distances(x, x.features - means[x.labels], x.features[:, None] - means).min(1)


def from_all(x):
    away = x.features - mean(x.features, x.weights)
    return squared_distances(x, away, away)


def knn(x):
    unit = x.features / np.linalg.norm(x.features, axis=1, keepdims=True)
    return NearestNeighbors(n_neighbors=1).fit(x.coreset).kneighbors(unit)[0][:, 0]


def vim(x, origin=None):
    """``origin`` is where the last layer gives all classes the same logit."""
    away = x.features - (mean(x.features, x.weights) if origin is None else origin)
    _, vectors = np.linalg.eigh(sum(w * np.outer(row, row) for w, row in zip(x.weights, away, strict=True)))
    norm = np.linalg.norm(away @ vectors[:, : away.shape[1] // 2], axis=1)
    alpha = mean(x.logits.max(1) - x.logits.mean(1), x.weights) / mean(norm, x.weights)
    return alpha * norm - logsumexp(x.logits, axis=1)


def coreset(features, most):
    """Rows, each the farthest from those before it, from that nearest to the mean on (greedy k-center); none twice."""
    chosen = [int(np.argmin(np.linalg.norm(features - features.mean(0), axis=1)))]
    while len(chosen) < most:
        away = [min(np.linalg.norm(row - features[other]) for other in chosen) for row in features]
        if max(away) < 1e-3:
            break
        chosen.append(int(np.argmax(away)))
    return features[chosen]


ORACLES: Mapping[str, Callable[[Pixels], np.ndarray]] = {
    "gmm_nll": lambda x: -x.likelihood.max(1),
    "predicted_nll": lambda x: -x.likelihood[np.arange(len(x.logits)), x.logits.argmax(1)],
    "marginal_nll": lambda x: -logsumexp(x.log_prob, axis=(1, 2)) + math.log(x.log_prob.shape[1]),
    "empirical_nll": empirical,
    "outlier_ratio": lambda x: x.outliers - np.log(np.exp(x.likelihood.astype(np.longdouble)).mean(1)).astype(float),
    "likelihood_margin": lambda x: -lead(x.likelihood),
    "nearest_component": lambda x: (((x.features[:, None, None] - x.means) / x.stds) ** 2).sum(3).min((1, 2)),
    "typicality": typicality,
    "standardised_nll": lambda x: standardised(x, x.likelihood),
    "msp": lambda x: 1 - x.probability.max(1),
    "max_logit": lambda x: -x.logits.max(1),
    "entropy": lambda x: -(x.probability * np.log(x.probability)).sum(1),
    "energy": lambda x: -logsumexp(x.logits, axis=1),
    "gen": lambda x: (x.probability**0.1 * (1 - x.probability) ** 0.1).sum(1),
    "margin": lambda x: -lead(x.logits),
    "sml": lambda x: standardised(x, x.logits),
    "mahalanobis": mahalanobis,
    "relative_mahalanobis": lambda x: mahalanobis(x) - from_all(x),
    "knn": knn,
    "vim": vim,
}

BETWEEN = {"msp", "entropy", "gen", "margin", "likelihood_margin"}
"""Scores that are high between two classes, where it is doubtful which of them it is, and not far away from all."""
