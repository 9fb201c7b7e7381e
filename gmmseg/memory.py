"""A memory of recent features for every component of every class."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MemoryStart = Literal["empty", "random"]


class FeatureMemory(nn.Module):
    """One ring of the last M features per group, with the running sums that EM needs.

    A group is one component of one class, numbered ``class * P + component``. Sums and sums of squares follow
    every write, so that the moments of a group cost nothing that grows with M.

    Args:
        num_groups: G, the number of rings.
        size: M, features kept per group.
        embed_dim: D.
        start: ``"empty"``: only what was pushed counts. ``"random"``: as the published code, the rings start
            full of random unit vectors, which count as data until they are overwritten.

    Shape:
        ``features (G, M, D)``; ``pointer (G,)``, where the next feature goes; ``count (G,)``, how many of the
        M are data; ``sums``, ``square_sums (G, D)``, float64, over those.
    """

    features: Tensor
    pointer: Tensor
    count: Tensor
    sums: Tensor
    square_sums: Tensor

    def __init__(self, num_groups: int, size: int, embed_dim: int, start: MemoryStart = "empty") -> None:
        super().__init__()
        random = start == "random"
        shape = (num_groups, size, embed_dim)
        features = F.normalize(torch.randn(shape), dim=-1) if random else torch.zeros(shape)
        self.register_buffer("features", features)
        self.register_buffer("pointer", torch.zeros(num_groups, dtype=torch.long))
        self.register_buffer("count", torch.full((num_groups,), size if random else 0, dtype=torch.long))
        self.register_buffer("sums", features.double().sum(1))
        self.register_buffer("square_sums", features.double().square().sum(1))

    @property
    def size(self) -> int:
        """M, the features kept per group."""
        return self.features.shape[1]

    @torch.no_grad()
    def push(self, features: Tensor, groups: Tensor) -> None:
        """Write features behind the pointers of their groups, in the order given, over the oldest.

        Args:
            features: Shape ``(K, D)``, at most M of any one group (see :func:`choose_evenly`).
            groups: Their groups. Shape ``(K,)``, int64.

        Raises:
            ValueError: More than M features of one group.
        """
        rank, arriving = rank_in_group(groups, len(self.count))
        if arriving.max() > self.size:
            raise ValueError(f"pushed {int(arriving.max())} features to a group that keeps {self.size}; choose fewer")
        slot = (self.pointer[groups] + rank) % self.size
        old = self.features[groups, slot].double()
        old[slot >= self.count[groups]] = 0  # an empty slot holds no data; rings fill from slot 0
        new = features.to(self.features.dtype)
        self.features[groups, slot] = new
        new = new.double()
        self.sums.index_add_(0, groups, new - old)
        self.square_sums.index_add_(0, groups, new.square() - old.square())
        self.pointer.add_(arriving).remainder_(self.size)
        self.count.add_(arriving).clamp_(max=self.size)


def rank_in_group(groups: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Position of every element among those of its group, in order, and the sizes of the groups.

    Args:
        groups: Shape ``(K,)``, int64 in ``[0, num_groups)``.
        num_groups: G.

    Returns:
        Ranks ``(K,)`` from 0, and counts ``(num_groups,)``.
    """
    counts = torch.bincount(groups, minlength=num_groups)
    order = groups.argsort(stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(groups)
    rank[order] = torch.arange(len(groups), device=groups.device) - first[groups[order]]
    return rank, counts


def choose_evenly(groups: Tensor, num_groups: int, most: int) -> Tensor:
    """Keep at most ``most`` elements of each group, evenly spaced from its first to its last.

    Args:
        groups: Shape ``(K,)``, int64 in ``[0, num_groups)``.
        num_groups: G.
        most: How many to keep of a group, at least 1.

    Returns:
        Indices of the kept elements, ascending. Shape ``(<= K,)``.

    Source: the published code of Liang et al., GMMSeg (NeurIPS 2022); the places are those of
    ``torch.linspace(0, n - 1, most, dtype=int64)`` on a CPU.
    """
    counts = torch.bincount(groups, minlength=num_groups)
    crowded = counts > most
    last = (counts[crowded] - 1).double()[:, None]
    step = last / max(most - 1, 1)
    place = torch.arange(most, device=groups.device, dtype=torch.float64)
    from_first, from_last = step * place, last - step * (most - 1 - place)
    places = torch.where(place < max(most // 2, 1), from_first, from_last).long()  # (crowded, most)
    first = (counts.cumsum(0) - counts)[crowded, None]
    chosen = groups.argsort(stable=True)[first + places].flatten()
    return torch.cat([chosen, (~crowded[groups]).nonzero().squeeze(1)]).sort().values
