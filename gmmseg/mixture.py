"""Class-conditional Gaussian mixtures: the parameters are buffers, the densities are differentiable."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.density.gaussian import diagonal_log_prob, diagonal_peak


class GaussianMixture(nn.Module):
    """P diagonal Gaussians for each of C classes, over embeddings of unit length.

    Means and standard deviations are buffers. Only :class:`gmmseg.em.EMUpdater` fits them; they never get a
    gradient. Densities are differentiable with respect to the features.

    Means start as random directions. Standard deviations start at 1 / sqrt(D), the value for an even spread over
    the sphere, so that components without assigned pixels stay comparable with the others. (At 1 their
    log-density would be about 100 nats lower, and their class would never be predicted.)

    Args:
        num_classes: Number of classes, C.
        num_components: Gaussians per class, P.
        embed_dim: Size of an embedding, D.

    Shape:
        ``means``, ``stds``: ``(C, P, D)``.
    """

    means: Tensor
    stds: Tensor

    def __init__(self, num_classes: int, num_components: int, embed_dim: int) -> None:
        super().__init__()
        shape = (num_classes, num_components, embed_dim)
        self.register_buffer("means", F.normalize(torch.randn(shape), dim=-1))
        self.register_buffer("stds", torch.full(shape, embed_dim**-0.5))

    def log_prob(self, features: Tensor) -> Tensor:
        """Compute the log-density of every feature under every component, with the means scaled to unit length.

        Args:
            features: Unit vectors. Shape ``(N, D)``.

        Returns:
            Natural logarithms of densities. Shape ``(N, C, P)``.
        """
        classes, components, dim = self.means.shape
        means = F.normalize(self.means, dim=-1).view(-1, dim)
        return diagonal_log_prob(features, means, self.stds.view(-1, dim)).view(-1, classes, components)

    def peak(self) -> Tensor:
        """Compute the log-density of every component at its mean, its largest value. Shape ``(C, P)``."""
        return diagonal_peak(self.stds)


class AddedMixture(nn.Module):
    """The mixture of one class that was added to a trained network: weighted diagonal Gaussians, up to P of them.

    The weights of a :class:`GaussianMixture` are even, and its densities leave out the common factor 1 / P. Densities
    here leave out the same factor, so that those of both kinds of class are comparable: a component of weight w counts
    as ``w * P * N(x)``.

    Without a state, the class has no component, and a density of 0 everywhere.

    Args:
        num_components: Largest number of components, P.
        embed_dim: Size of an embedding, D.

    Shape:
        ``means``, ``stds``: ``(P, D)``; means have unit length.
        ``log_weights (P,)``: minus infinity for components that the class does not have.
    """

    means: Tensor
    stds: Tensor
    log_weights: Tensor

    def __init__(self, num_components: int, embed_dim: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(num_components, embed_dim))
        self.register_buffer("stds", torch.ones(num_components, embed_dim))
        self.register_buffer("log_weights", torch.full((num_components,), -torch.inf))

    def log_prob(self, features: Tensor) -> Tensor:
        """Compute the log-density of every feature under every component, times its weight and P.

        Args:
            features: Unit vectors. Shape ``(N, D)``.

        Returns:
            ``log(w_p P N(x; p))``; minus infinity for components that the class does not have. Shape ``(N, P)``.
        """
        return diagonal_log_prob(features, self.means, self.stds) + self._scale()

    def peak(self) -> Tensor:
        """Compute :meth:`log_prob` of every component at its mean, its largest value. Shape ``(P,)``."""
        return diagonal_peak(self.stds) + self._scale()

    def _scale(self) -> Tensor:
        return self.log_weights + math.log(len(self.log_weights))
