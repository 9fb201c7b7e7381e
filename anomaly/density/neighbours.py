"""Banks of features, and the density that the distance to the nearest of them estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomaly.density.checks import ROUNDING, check_features
from anomaly.errors import InputError
from anomaly.utils.given import choice, whole

CORESETS = ("greedy", "random")
"""How the features of a bank are chosen: by greedy k-centre, which covers the rare ones too, or at random."""
EXTENT = 1e-3
"""Features nearer than this share of the extent, the largest distance from the mean, count as equal."""
_CHUNK = 1 << 13  # features whose distances are computed at a time


def greedy_coreset(features: Tensor, most: int, least: float = 0.0) -> Tensor:
    """Choose features by greedy k-centre.

    The first is the one nearest to the mean, each further one is the farthest from those chosen before. The search
    stops early when all remaining features are within ``EXTENT`` of a chosen one.

    Args:
        features: Features. Shape ``(n, D)``, float64.
        most: Largest number of features to choose.
        least: Distance within which features always count as equal.

    Returns:
        Their rows, in the order in which they are chosen. Shape ``(m,)``, int64.

    Source: Sener & Savarese, Active Learning for CNNs (ICLR 2018); used in PatchCore, Roth et al. (CVPR 2022).
    """
    centred = (features - features.mean(0)).float()
    squares = centred.square().sum(1)
    enough = max(EXTENT**2 * float(squares.max()), least**2)
    chosen = [int(squares.argmin())]
    nearest = torch.full((len(centred),), torch.inf)
    for _ in range(min(most, len(centred)) - 1):
        nearest = torch.minimum(nearest, squares + squares[chosen[-1]] - 2 * (centred @ centred[chosen[-1]]))
        farthest = int(nearest.argmax())
        if nearest[farthest] <= enough:
            break
        chosen.append(farthest)
    return torch.tensor(chosen)


def nearest_distances(features: Tensor, bank: Tensor, k: int) -> Tensor:
    """Compute the distance of every feature to its k-th nearest in a bank.

    Matrix products find the neighbour; its distance is then computed from the difference, which keeps the digits of
    small ones. The largest arrays have the shapes ``(N, M)`` and ``(N, D)``.

    Args:
        features: Features. Shape ``(N, D)``.
        bank: Features of the bank. Shape ``(M, D)``.
        k: Number of the neighbour, from 1 to M.

    Returns:
        Euclidean distances. Shape ``(N,)``, dtype of ``features``.
    """
    squares = torch.addmm(bank.square().sum(1), features, bank.T, alpha=-2)  # up to the feature's own square
    neighbour = squares.topk(k, dim=1, largest=False).indices[:, -1]
    return (features - bank[neighbour]).norm(dim=1)


class Banks(nn.Module):
    r"""A bank of features for each class, as a density: the k-nearest-neighbour estimate.

    .. math:: \log p(x) = \log k - \log n - \log V_D - D \log d_k(x)

    Here n is the number of features in the bank, :math:`V_D` the volume of the unit ball in D dimensions and
    :math:`d_k` the distance to the k-th nearest feature. Distances are at least ``EXTENT`` times the largest distance
    of a training feature from their mean, so a feature of the bank has a finite density. The estimate does not
    integrate to 1. A bank of fewer than k features uses all of them.

    Args:
        num_classes: Number of classes, C.
        dim: Size of a feature, D.
        size: Largest number of features of a class, M.
        k: Number of the neighbour.

    Shape:
        ``features (C, M, D)``; ``sizes (C,)``, int64, 0 for a class without pixels; ``least ()``, the smallest
        distance.

    Raises:
        InputError: ``size`` is below 1, or ``k`` is not between 1 and ``size``.

    Source: Loftsgaarden & Quesenberry, A Nonparametric Estimate of a Multivariate Density Function (1965); the banks of
    Roth et al., PatchCore (CVPR 2022), and Damm et al., AnomalyDINO (WACV 2025).
    """

    features: Tensor
    sizes: Tensor
    least: Tensor

    def __init__(self, num_classes: int, dim: int, size: int, k: int = 1) -> None:
        super().__init__()
        size = whole("bank", size, 1, "a number of features of at least 1")
        self.k = whole("neighbours", k)
        if not 1 <= self.k <= size:
            raise InputError(
                f"neighbours: expected a number between 1 and the {size} features of a bank, found {k}; choose another"
            )
        self.register_buffer("features", torch.zeros(num_classes, size, dim))
        self.register_buffer("sizes", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("least", torch.ones(()))

    def fit(self, samples: Sequence[Tensor], generator: torch.Generator, coreset: str = "greedy") -> list[int]:
        """Choose the features of every class, on the CPU.

        Args:
            samples: Features of the pixels of each class; a class without pixels gets no bank. Shape ``(n, D)``.
            generator: CPU generator that draws the features of a random coreset.
            coreset: How features are chosen, one of ``CORESETS``.

        Returns:
            Number of features of each class.

        Raises:
            InputError: There is no pixel or one whose features are not finite, all features are equal, or ``coreset``
                is unknown.
        """
        choice("coreset", coreset, CORESETS)
        most, dim = self.features.shape[1:]
        rows = check_features("bank", torch.cat(list(samples)), dim)
        extent = (rows - rows.mean(0)).norm(dim=1).max()
        if extent <= ROUNDING * rows.abs().max():
            raise InputError(
                f"bank: expected pixels that differ in their features, found {len(rows)} that are all equal; fit it to "
                "other images"
            )
        self.sizes.zero_()
        self.features.zero_()
        self.least.copy_(EXTENT * extent)
        for k, features in enumerate(rows.split([len(each) for each in samples])):
            if len(features):
                if coreset == "greedy":
                    chosen = greedy_coreset(features, most)
                else:
                    chosen = torch.randperm(len(features), generator=generator)[:most]
                self.features[k, : len(chosen)] = features[chosen].float()
                self.sizes[k] = len(chosen)
        return self.sizes.tolist()

    def log_prob(self, features: Tensor) -> Tensor:
        """Compute the log-density of every class, in float64.

        Args:
            features: Features. Shape ``(N, D)``.

        Returns:
            Log-densities; minus infinity for a class without a bank. Shape ``(N, C, 1)``.
        """
        dim = self.features.shape[2]
        log_volume = 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1)
        found = features.new_full((len(features), len(self.sizes), 1), -torch.inf, dtype=torch.float64)
        for c, size in enumerate(self.sizes.tolist()):
            if size:
                k, bank = min(self.k, size), self.features[c, :size].double()
                chunks = [nearest_distances(chunk.double(), bank, k) for chunk in features.split(_CHUNK)]
                distances = torch.cat(chunks).clamp_min(self.least.double())
                found[:, c, 0] = math.log(k / size) - log_volume - dim * distances.log()
        return found
