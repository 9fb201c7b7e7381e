"""Whitening: coordinates in which features have unit covariance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly.density.checks import ROUNDING, check_features
from anomaly.errors import InputError
from anomaly.utils.given import real, whole

SHRINKAGE = 0.01
"""Default share of the mean variance that is added to the variance of every direction."""


class Whitening(nn.Module):
    r"""Maps features to coordinates in which those it was fitted to have mean zero and unit covariance.

    .. math:: y = W^T (x - c), \quad W = U \, \mathrm{diag}\big(\lambda_i + s \bar\lambda\big)^{-1/2}

    U holds the leading directions of the covariance, :math:`\lambda_i` their variances, :math:`\bar\lambda` the mean
    variance of all directions and s the shrinkage. Before it is fitted, it is the identity.

    Args:
        dim: Size of a feature, D.
        rank: Number of leading directions that are kept, R; ``None`` keeps all.

    Shape:
        ``centre (D,)`` and ``matrix (D, R)``.

    Raises:
        InputError: ``rank`` is below 1 or above D.
    """

    centre: Tensor
    matrix: Tensor

    def __init__(self, dim: int, rank: int | None = None) -> None:
        super().__init__()
        self.rank = dim if rank is None else whole("rank", rank)
        if not 1 <= self.rank <= dim:
            raise InputError(
                f"rank: expected a number of directions between 1 and the {dim} of the features, found {rank}; "
                "choose another, or None for all"
            )
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim, self.rank))

    def fit(self, features: Tensor, weights: Tensor, shrinkage: float = SHRINKAGE) -> None:
        """Compute centre and matrix from weighted features, in float64.

        Fewer features than dimensions leave directions without variance. Shrinkage gives them one; without it they
        can only be left out, by ``rank``.

        Args:
            features: Features, finite. Shape ``(n, D)``.
            weights: Weight of each feature, positive. Shape ``(n,)``.
            shrinkage: Share of the mean variance that is added to the variance of every direction, at least 0.

        Raises:
            InputError: There is no feature or one that is not finite, all features are equal, or a direction that is
                kept has no variance and ``shrinkage`` is 0.
        """
        shrinkage = real("shrinkage", shrinkage, "a share of at least 0", finite=True)
        if shrinkage < 0:
            raise InputError(f"shrinkage: expected a share of at least 0, found {shrinkage:g}; choose another")
        rows = check_features("whitening", features, len(self.centre))
        centre = weights @ rows / weights.sum()
        away = rows - centre
        variance, basis = torch.linalg.eigh(away.T @ (weights[:, None] * away) / weights.sum())
        if variance[-1] <= (ROUNDING * rows.abs().max()) ** 2:
            raise InputError(
                f"whitening: expected pixels that differ in their features, found {len(rows)} that are all equal; "
                "fit it to other images"
            )
        kept, least = variance[-self.rank :], 1e-12 * variance[-1]
        if shrinkage == 0 and kept[0] <= least:
            raise InputError(
                f"whitening: expected pixels that differ in all {self.rank} directions, found {len(rows)} that differ "
                f"in {int((variance > least).sum())}; set shrinkage above 0, a lower rank, or use more pixels"
            )
        self.centre.copy_(centre)
        self.matrix.copy_(basis[:, -self.rank :] / (kept + shrinkage * variance.mean()).sqrt())

    def reset(self) -> None:
        """Become the identity.

        Raises:
            InputError: It does not keep all directions.
        """
        dim = len(self.centre)
        if self.rank < dim:
            raise InputError(
                f"rank: expected None without whitening, found {self.rank} of {dim}; whiten the features, or leave "
                "rank out"
            )
        self.centre.zero_()
        self.matrix.copy_(torch.eye(dim))

    def forward(self, features: Tensor) -> Tensor:
        """Map features to the whitened coordinates.

        Args:
            features: Features. Shape ``(N, D)``.

        Returns:
            Shape ``(N, R)``, float64.
        """
        return (features.double() - self.centre.double()) @ self.matrix.double()
