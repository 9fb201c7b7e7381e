"""The class-conditional Gaussian mixtures: state without gradients, densities with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmmseg.functional import diagonal_log_prob, gaussian_peak


class GaussianMixture(nn.Module):
    """P diagonal Gaussians for each of C classes on the unit sphere of embeddings.

    Means and standard deviations are buffers: they are fitted by :class:`gmmseg.em.EMUpdater` alone and never
    get a gradient. Densities are differentiable with respect to the features.

    Args:
        num_classes: C.
        num_components: P, Gaussians per class.
        embed_dim: D, size of an embedding.

    Shape:
        ``means``, ``stds``: ``(C, P, D)``. Means start as random directions, deviations at those of an even spread
        over the sphere, 1 / sqrt(D): a component that nothing was assigned to yet stays comparable with the others.
        (At 1 its log-density would be some 100 nats below theirs, and its class never be predicted.)
    """

    means: Tensor
    stds: Tensor

    def __init__(self, num_classes: int, num_components: int, embed_dim: int) -> None:
        super().__init__()
        shape = (num_classes, num_components, embed_dim)
        self.register_buffer("means", F.normalize(torch.randn(shape), dim=-1))
        self.register_buffer("stds", torch.full(shape, embed_dim**-0.5))

    def log_prob(self, features: Tensor) -> Tensor:
        """Component log-densities, with the means taken as directions (scaled to unit length).

        Args:
            features: Unit vectors. Shape ``(N, D)``.

        Returns:
            Shape ``(N, C, P)``.
        """
        classes, components, dim = self.means.shape
        means = F.normalize(self.means, dim=-1).view(-1, dim)
        return diagonal_log_prob(features, means, self.stds.view(-1, dim)).view(-1, classes, components)

    def peak(self) -> Tensor:
        """Log-density of every component at its own mean, the largest there is. Shape ``(C, P)``."""
        return gaussian_peak(self.stds)
