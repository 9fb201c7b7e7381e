"""Log-density of diagonal Gaussians, by matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def diagonal_log_prob(features: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    r"""Log-density of every feature under every diagonal Gaussian.

    .. math::
        \log N(x; \mu, \sigma^2) = \sum_d \Big( -\frac{x_d^2}{2\sigma_d^2} + \frac{\mu_d x_d}{\sigma_d^2}
        - \frac{\mu_d^2}{2\sigma_d^2} - \log \sigma_d \Big) - \frac{D}{2} \log 2\pi

    is linear in :math:`(x^2, x)`: two accumulating matrix products give all N x G densities, and beside
    the result the largest array is one ``(N, D)`` array (a broadcast would need ``(N, G, D)``).

    Expanding the square costs digits where means and features are far from the origin compared with the
    deviations: the absolute error is about ``eps * sum(x^2 / std^2)``, some 1e-5 in float32 for the unit
    vectors and deviations of 0.1 and more of GMMSeg. Use float64 inputs where that is too much.

    Args:
        features: Shape ``(N, D)``.
        means: Shape ``(G, D)``.
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
    """Log-density of diagonal Gaussians at their means.

    Args:
        stds: Positive. Shape ``(..., D)``.

    Returns:
        Shape ``(...)``.
    """
    return -stds.log().sum(-1) - 0.5 * stds.shape[-1] * math.log(2 * math.pi)
