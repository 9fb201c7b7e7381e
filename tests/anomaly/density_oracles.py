"""Densities in float64 with numpy and scipy, one Gaussian and one pixel at a time."""

import numpy as np
import torch
from scipy import special, stats

KINDS = ("diagonal", "tied", "low_rank", "full")
RANK = 2
"""Number of factors of low-rank covariances in the tests."""


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=1500, dim=5, seed=0):
    """Three overlapping blobs of correlated features, of unequal number and width. Shape (n, D), float64."""
    draw = np.random.default_rng(seed)
    centres, which = 2 * draw.normal(size=(3, dim)), draw.choice(3, n, p=[0.6, 0.3, 0.1])
    mixing = draw.normal(size=(3, dim, dim)) / np.sqrt(dim)
    return torch.tensor(centres[which] + np.einsum("ni,nij->nj", draw.normal(size=(n, dim)), mixing[which]))


def matrix(parameters, g):
    """Covariance matrix of Gaussian g, from the parameters of all."""
    parameters = {name: value.double().numpy() for name, value in parameters.items()}
    if "factors" in parameters:
        factors = parameters["factors"][g]
        return factors @ factors.T + parameters["stds"][g] ** 2 * np.eye(len(factors))
    if "stds" in parameters:
        return np.diag(parameters["stds"][g] ** 2)
    root = parameters["precision_cholesky"]
    root = root if root.ndim == 2 else root[g]
    return np.linalg.inv(root @ root.T)


def gaussian(x, mean, covariance):
    """Log-density of every row. Shape (N,)."""
    return stats.multivariate_normal(np.asarray(mean), covariance).logpdf(np.asarray(x)).reshape(len(x))


def log_joint(mixture, x):
    """Log-density of every component of a mixture, with its weight. Shape (N, P)."""
    return np.stack(
        [
            np.log(float(weight)) + gaussian(x, mean, matrix(mixture.parameters, p))
            for p, (weight, mean) in enumerate(zip(mixture.weights, mixture.means, strict=True))
        ],
        1,
    )


def mean_log_likelihood(mixtures, samples):
    """Mean over all pixels of all samples."""
    parts = [special.logsumexp(log_joint(m, x), axis=1) for m, x in zip(mixtures, samples, strict=True)]
    return np.concatenate(parts).mean()


def scatter(x, share, mean):
    """Weighted sum of outer products around a mean, pixel by pixel."""
    found = np.zeros((x.shape[1], x.shape[1]))
    for row, weight in zip(np.asarray(x), share, strict=True):
        found += weight * np.outer(row - mean, row - mean)
    return found


def low_rank(covariance, rank):
    """The covariance of probabilistic PCA: leading directions, and the mean variance in all others."""
    values, basis = np.linalg.eigh(covariance)
    values[:-rank] = values[:-rank].mean()
    return basis @ np.diag(values) @ basis.T


def maximise(samples, shares, covariance, floor, rank=RANK):
    """One M-step: for each sample the weights, means and covariance matrices of its components."""
    found, within, pixels = [], 0.0, sum(map(len, samples))
    for x, share in zip(samples, shares, strict=True):
        masses = share.sum(0)
        means = [np.average(x, axis=0, weights=column) for column in share.T]
        scatters = [scatter(x, column, mean) for column, mean in zip(share.T, means, strict=True)]
        within = within + sum(scatters)
        found.append((masses / masses.sum(), means, [s / mass for s, mass in zip(scatters, masses, strict=True)]))
    noise = floor * np.eye(samples[0].shape[1])
    shaped = {
        "diagonal": lambda c: np.diag(np.diag(c)) + noise,
        "tied": lambda c: within / pixels + noise,
        "low_rank": lambda c: low_rank(c + noise, rank),
        "full": lambda c: c + noise,
    }[covariance]
    return [(weights, means, [shaped(c) for c in covariances]) for weights, means, covariances in found]


def whitening(classes, rank, shrinkage):
    """Centre and matrix with equal weight of each class that has pixels."""
    classes = [np.asarray(x, float) for x in classes if len(x)]
    rows = np.concatenate(classes)
    weights = np.concatenate([np.full(len(x), 1 / len(x)) for x in classes])
    centre = np.average(rows, axis=0, weights=weights)
    values, basis = np.linalg.eigh(np.cov(rows.T, aweights=weights, ddof=0))
    return centre, basis[:, -rank:] / np.sqrt(values[-rank:] + shrinkage * values.mean())
