"""Distance to training features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import ROUNDING

CORESET = 2000
"""Training features that are kept, at most."""
_CHUNK = 1 << 14


def knn(features: Tensor, *, coreset: Tensor, k: int = 1) -> Tensor:
    """Distance of the unit feature to its k-th nearest training feature (Sun et al., ICML 2022).

    Args:
        features: Finite; scaled to unit length here.
        coreset: Unit features of training pixels.
        k: Which neighbour. Of a coreset, whose members lie apart from each other, the first tells most.

    Shape:
        ``(B, D, h, w)`` and ``(M, D)`` -> ``(B, h, w)``.

    Returns:
        float32 in [0, 2], higher = more anomalous.

    Raises:
        InputError: The coreset has not k features.
    """
    check(k=k, coreset=coreset)
    batch, dim, height, width = features.shape
    coreset = coreset.to(features.device)
    centre = coreset.mean(0)  # distances of features that point nearly the same way: from a nearby origin
    flat = F.normalize(features.movedim(1, -1).reshape(-1, dim).float(), dim=1) - centre
    coreset = coreset - centre
    parts = [_distances(chunk, coreset, k) for chunk in flat.split(_CHUNK)]
    return torch.cat(parts).view(batch, height, width)


def _distances(features: Tensor, coreset: Tensor, k: int) -> Tensor:
    """To the k-th nearest. Shape: ``(n, D)``, ``(M, D)`` -> ``(n,)``."""
    squares = torch.addmm(coreset.square().sum(1), features, coreset.T, alpha=-2)  # less that of the feature itself
    found = squares.topk(k, dim=1, largest=False).indices[:, -1]
    distances = (features - coreset[found]).norm(dim=1)
    return torch.where(distances > ROUNDING, distances, 0)  # of a feature to itself


def check(*, k: int = 1, coreset: Tensor | None = None) -> None:
    """Refuse a neighbour that the coreset, or the largest that there is, has not.

    Raises:
        InputError: It has not.
    """
    kept = CORESET if coreset is None else len(coreset)
    if not 1 <= k <= kept:
        raise InputError(f"knn: expected k between 1 and the {kept} features that are kept, found {k}")


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """``coreset (M, D)``: unit features that leave none far from all, by greedy k-center.

    The first is the one nearest to their mean, each other the one farthest from those chosen before (Sener & Savarese,
    Active Learning for CNNs, ICLR 2018; as in PatchCore, Roth et al., CVPR 2022). It ends early where the rest are
    within a thousandth of the sample's extent from one of those.
    """
    unit = F.normalize(sample.rows("features"), dim=1)
    features = (unit - unit.mean(0)).float()
    squares = features.square().sum(1)
    enough = max(1e-6 * float(squares.max()), ROUNDING**2)
    chosen = [int(squares.argmin())]
    nearest = torch.full((len(features),), torch.inf)
    for _ in range(min(CORESET, len(features)) - 1):
        nearest = torch.minimum(nearest, squares + squares[chosen[-1]] - 2 * (features @ features[chosen[-1]]))
        farthest = int(nearest.argmax())
        if nearest[farthest] <= enough:
            break
        chosen.append(farthest)
    return {"coreset": unit[chosen].float()}
