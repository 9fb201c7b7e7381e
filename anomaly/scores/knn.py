"""Distance to training features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample

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
    flat = F.normalize(features.movedim(1, -1).reshape(-1, dim).float(), dim=1)
    coreset = coreset.to(flat)
    parts = [(chunk @ coreset.T).topk(k, dim=1).values[:, -1] for chunk in flat.split(_CHUNK)]
    return (2 - 2 * torch.cat(parts)).clamp_min(0).sqrt().view(batch, height, width)


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

    Each is the one farthest from those chosen before (Sener & Savarese, Active Learning for CNNs, ICLR 2018; as in
    PatchCore, Roth et al., CVPR 2022).
    """
    features = F.normalize(sample.rows("features").float(), dim=1)
    chosen = [0]
    nearest = torch.full((len(features),), torch.inf)
    for _ in range(min(CORESET, len(features)) - 1):
        nearest = torch.minimum(nearest, 2 - 2 * (features @ features[chosen[-1]]))
        chosen.append(int(nearest.argmax()))
        if nearest[chosen[-1]] <= 1e-6:  # all others are there already
            chosen.pop()
            break
    return {"coreset": features[chosen]}
