"""Distances to training features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.density.neighbours import greedy_coreset, nearest_distances
from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import ROUNDING

CORESET = 2000
"""Largest number of training features that are kept."""
_CHUNK = 1 << 14


def knn(features: Tensor, *, coreset: Tensor, k: int = 1) -> Tensor:
    """Distance of the unit feature to its k-th nearest training feature.

    Args:
        features: Features, finite; they are scaled to unit length here.
        coreset: Unit features of training pixels.
        k: Number of the neighbour, from 1. The features of a coreset lie far apart, so the nearest is most informative.

    Shape:
        ``(B, D, h, w)`` and ``(M, D)`` -> ``(B, h, w)``.

    Returns:
        float32 in [0, 2], higher = more anomalous.

    Raises:
        InputError: ``k`` is below 1, or the coreset has fewer than k features.

    Source: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors (ICML 2022).
    """
    check(k=k, coreset=coreset)
    batch, dim, height, width = features.shape
    coreset = coreset.to(features.device)
    centre = coreset.mean(0)  # a nearby origin keeps distances of almost parallel features accurate
    flat = F.normalize(features.movedim(1, -1).reshape(-1, dim).float(), dim=1) - centre
    coreset = coreset - centre
    parts = [_distances(chunk, coreset, k) for chunk in flat.split(_CHUNK)]
    return torch.cat(parts).view(batch, height, width)


def _distances(features: Tensor, coreset: Tensor, k: int) -> Tensor:
    """Compute distances to the k-th nearest feature. Shape ``(n, D)``, ``(M, D)`` -> ``(n,)``."""
    distances = nearest_distances(features, coreset, k)
    return torch.where(distances > ROUNDING, distances, 0)  # exactly 0 for a feature of the coreset


def check(*, k: int = 1, coreset: Tensor | None = None) -> None:
    """Check the number of the neighbour.

    Args:
        k: Number of the neighbour, from 1.
        coreset: The training features; ``None`` checks against the largest possible coreset.

    Raises:
        InputError: ``k`` is below 1 or above the number of training features.
    """
    kept = CORESET if coreset is None else len(coreset)
    if not 1 <= k <= kept:
        raise InputError(
            f"knn: expected k between 1 and the {kept} features that are kept, found {k}; choose another k"
        )


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """Choose a coreset of training features by greedy k-center.

    The first feature is the one nearest to the mean, each further one is the farthest from those chosen before. The
    search stops early when all remaining features are within a thousandth of the sample's extent from a chosen one.

    Args:
        sample: Training pixels.

    Returns:
        ``coreset (M, D)``, unit features.

    Source: Sener & Savarese, Active Learning for CNNs (ICLR 2018); used in PatchCore, Roth et al. (CVPR 2022).
    """
    unit = F.normalize(sample.rows("features"), dim=1)
    return {"coreset": unit[greedy_coreset(unit, CORESET, ROUNDING)].float()}
