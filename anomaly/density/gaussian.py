"""Log-densities of Gaussians with every kind of covariance, computed with matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def diagonal_log_prob(features: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    r"""Compute the log-density of every feature under every diagonal Gaussian.

    .. math::
        \log N(x; \mu, \sigma^2) = \sum_d \Big( -\frac{x_d^2}{2\sigma_d^2} + \frac{\mu_d x_d}{\sigma_d^2}
        - \frac{\mu_d^2}{2\sigma_d^2} - \log \sigma_d \Big) - \frac{D}{2} \log 2\pi

    This is linear in :math:`(x^2, x)`, so two accumulating matrix products give all N x G densities. Besides the
    result, the largest array has the shape ``(N, D)``; broadcasting would need ``(N, G, D)``.

    Expanding the square loses digits where means and features are far from the origin, relative to the standard
    deviations. The absolute error is about ``eps * sum(x^2 / std^2)``: roughly 1e-5 in float32 for the unit vectors
    of GMMSeg with standard deviations of at least 0.1. Pass float64 inputs if you need less.

    Args:
        features: Points. Shape ``(N, D)``.
        means: Means of the Gaussians. Shape ``(G, D)``.
        stds: Standard deviations (not variances), positive. Shape ``(G, D)``.

    Returns:
        Natural logarithms of densities. Shape ``(N, G)``, dtype of ``features``.

    Source: Liang et al., GMMSeg (NeurIPS 2022), eq. 5 with diagonal covariances.
    """
    precision = stds.pow(-2)
    constant = -0.5 * ((means.square() * precision).sum(1) + means.shape[1] * math.log(2 * math.pi)) - stds.log().sum(1)
    log_prob = torch.addmm(constant, features, (means * precision).T)
    return log_prob.addmm_(features.square(), (-0.5 * precision).T)


def diagonal_peak(stds: Tensor) -> Tensor:
    """Compute the log-density of diagonal Gaussians at their means, its largest value.

    Args:
        stds: Standard deviations, positive. Shape ``(..., D)``.

    Returns:
        Natural logarithms of densities. Shape ``(...)``.
    """
    return -stds.log().sum(-1) - 0.5 * stds.shape[-1] * math.log(2 * math.pi)


def tied_log_prob(features: Tensor, means: Tensor, precision_cholesky: Tensor) -> Tensor:
    r"""Compute the log-density of every feature under every Gaussian, where all Gaussians share one covariance.

    With :math:`\Sigma^{-1} = A A^T`, it is the density of :math:`A^T x` under Gaussians of unit covariance, times
    :math:`\det A`. The largest array besides the result has the shape ``(N, D)``.

    Args:
        features: Points. Shape ``(N, D)``.
        means: Means of the Gaussians. Shape ``(G, D)``.
        precision_cholesky: Upper triangular A with ``A A' = inverse of the covariance``. Shape ``(D, D)``.

    Returns:
        Natural logarithms of densities. Shape ``(N, G)``, dtype of ``features``.
    """
    distances = _squared_distances(features @ precision_cholesky, means @ precision_cholesky)
    return cholesky_peak(precision_cholesky) - 0.5 * distances


def full_log_prob(features: Tensor, means: Tensor, precision_cholesky: Tensor) -> Tensor:
    """Compute the log-density of every feature under every Gaussian, each with its own full covariance.

    One Gaussian at a time: the largest array besides the result has the shape ``(N, D)``.

    Args:
        features: Points. Shape ``(N, D)``.
        means: Means of the Gaussians. Shape ``(G, D)``.
        precision_cholesky: For each Gaussian the upper triangular A with ``A A' = inverse of the covariance``. Shape
            ``(G, D, D)``.

    Returns:
        Natural logarithms of densities. Shape ``(N, G)``, dtype of ``features``.
    """
    away = [
        ((features - mean) @ matrix).square_().sum(1) for mean, matrix in zip(means, precision_cholesky, strict=True)
    ]
    return cholesky_peak(precision_cholesky) - 0.5 * torch.stack(away, 1)


def cholesky_peak(precision_cholesky: Tensor) -> Tensor:
    """Compute the log-density at the mean of Gaussians with full covariances, its largest value.

    Args:
        precision_cholesky: Triangular A with ``A A' = inverse of the covariance``. Shape ``(..., D, D)``.

    Returns:
        Natural logarithms of densities. Shape ``(...)``.
    """
    diagonal = precision_cholesky.diagonal(dim1=-2, dim2=-1)
    return diagonal.log().sum(-1) - 0.5 * diagonal.shape[-1] * math.log(2 * math.pi)


def low_rank_log_prob(features: Tensor, means: Tensor, factors: Tensor, stds: Tensor) -> Tensor:
    r"""Compute the log-density of every feature under every Gaussian of covariance :math:`F F^T + \sigma^2 I`.

    By the Woodbury identity, with :math:`L L^T = \sigma^2 I + F^T F` and :math:`B = F L^{-T}`,

    .. math::
        (x - \mu)^T \Sigma^{-1} (x - \mu) = \big( \|x - \mu\|^2 - \|B^T (x - \mu)\|^2 \big) / \sigma^2 .

    No matrix of shape ``(D, D)`` is needed; the largest array besides the result has the shape ``(N, D)``.

    Args:
        features: Points. Shape ``(N, D)``.
        means: Means of the Gaussians. Shape ``(G, D)``.
        factors: F of each Gaussian. Shape ``(G, D, q)``.
        stds: Standard deviation of the noise of each Gaussian, positive. Shape ``(G,)``.

    Returns:
        Natural logarithms of densities. Shape ``(N, G)``, dtype of ``features``.

    Source: Tipping & Bishop, Mixtures of Probabilistic Principal Component Analyzers (Neural Computation 1999).
    """
    projections = torch.linalg.solve_triangular(_core(factors, stds), factors.mT, upper=False).mT
    centres = (means[:, None] @ projections).squeeze(1)
    together = max(1, features.shape[1] // factors.shape[2])  # Gaussians whose factors fill an array of shape (N, D)
    within = []
    for some, centre in zip(projections.split(together), centres.split(together), strict=True):
        away = features @ some.movedim(0, 1).flatten(1) - centre.flatten()
        within.append(away.square_().unflatten(1, centre.shape).sum(2))
    distances = (_squared_distances(features, means) - torch.cat(within, 1)) / stds.square()
    return low_rank_peak(factors, stds) - 0.5 * distances


def low_rank_peak(factors: Tensor, stds: Tensor) -> Tensor:
    """Compute the log-density at the mean of Gaussians of low-rank covariance, its largest value.

    Args:
        factors: F of each covariance ``F F' + std^2 I``. Shape ``(..., D, q)``.
        stds: Standard deviation of the noise, positive. Shape ``(...)``.

    Returns:
        Natural logarithms of densities. Shape ``(...)``.
    """
    dim, rank = factors.shape[-2:]
    half = _core(factors, stds).diagonal(dim1=-2, dim2=-1).log().sum(-1) + (dim - rank) * stds.log()
    return -half - 0.5 * dim * math.log(2 * math.pi)


def _core(factors: Tensor, stds: Tensor) -> Tensor:
    """Return the Cholesky factor of ``std^2 I + F'F``. Shape ``(..., q, q)``."""
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    return torch.linalg.cholesky(factors.mT @ factors + stds.square()[..., None, None] * identity)


def _squared_distances(features: Tensor, means: Tensor) -> Tensor:
    """Compute squared distances by a matrix product. Shape ``(N, D)``, ``(G, D)`` -> ``(N, G)``."""
    distances = torch.addmm(means.square().sum(1), features, means.T, alpha=-2)
    return distances.add_(features.square().sum(1, keepdim=True))


@dataclass(frozen=True)
class Covariance:
    """A kind of covariance.

    Args:
        log_prob: Log-densities of features ``(N, D)`` under Gaussians with ``means (G, D)`` and the parameters of their
            covariances, given by name. Shape ``(N, G)``.
        peak: The densities at the means, from the parameters of the covariances.
        shapes: Shape of each parameter, by name, of one Gaussian in D dimensions with q factors.
        shared: Whether all Gaussians share the parameters.
    """

    log_prob: Callable[..., Tensor]
    peak: Callable[..., Tensor]
    shapes: Callable[[int, int], dict[str, tuple[int, ...]]]
    shared: bool = False


COVARIANCES = {
    "diagonal": Covariance(diagonal_log_prob, diagonal_peak, lambda d, q: {"stds": (d,)}),
    "tied": Covariance(tied_log_prob, cholesky_peak, lambda d, q: {"precision_cholesky": (d, d)}, shared=True),
    "low_rank": Covariance(low_rank_log_prob, low_rank_peak, lambda d, q: {"factors": (d, q), "stds": ()}),
    "full": Covariance(full_log_prob, cholesky_peak, lambda d, q: {"precision_cholesky": (d, d)}),
}
"""Every kind of covariance, by name.

``diagonal``: a variance for each coordinate. ``tied``: one full covariance that all components of all classes share.
``low_rank``: a covariance of low rank plus equal noise in all directions (probabilistic PCA). ``full``: a full
covariance for each component.
"""
