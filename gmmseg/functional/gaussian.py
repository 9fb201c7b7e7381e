"""Log-density of diagonal Gaussians, computed with matrix products."""

from __future__ import annotations

import math

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


def gaussian_peak(stds: Tensor) -> Tensor:
    """Compute the log-density of diagonal Gaussians at their means, its largest value.

    Args:
        stds: Standard deviations, positive. Shape ``(..., D)``.

    Returns:
        Natural logarithms of densities. Shape ``(...)``.
    """
    return -stds.log().sum(-1) - 0.5 * stds.shape[-1] * math.log(2 * math.pi)
