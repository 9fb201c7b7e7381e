"""A memory of recent features for every component of every class, as moments of blocks of them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MemoryStart = Literal["empty", "random"]


def block_size(size: int, most_blocks: int) -> int:
    """Features per block: the fewest that divide ``size`` into at most ``most_blocks`` blocks."""
    return next(b for b in range(-(-size // most_blocks), size + 1) if size % b == 0)


class FeatureMemory(nn.Module):
    """One ring of the last M features per group, as EM needs it: in moments.

    A group is one component of one class, numbered ``class * P + component``. EM asks for sums and sums of squares
    over the ring, so the ring keeps these of *blocks* of B consecutive features in place of the features: 2D numbers
    instead of B * D. A block is forgotten as a whole when its slots come round again, so that a full ring holds the
    last M - B + 1 to M features; with B = 1 it is the plain ring. The sums over the whole ring follow every
    write, and moments cost nothing that grows with M.

    Args:
        num_groups: G, the number of rings.
        size: M, features kept per group.
        embed_dim: D.
        start: ``"empty"``: only what was pushed counts. ``"random"``: as the published code, the rings start
            full of random unit vectors, which count as data until they are overwritten.
        most_blocks: K is at most this; M of no more features are kept one by one.

    Shape:
        ``pushed (G,)``, int64, features ever pushed, M more for a full start; ``blocks (G, K, 2, D)``, float32, sum
        and sum of squares of each block; ``sums``, ``square_sums (G, D)``, float64, over the blocks.
    """

    pushed: Tensor
    blocks: Tensor
    sums: Tensor
    square_sums: Tensor

    def __init__(
        self, num_groups: int, size: int, embed_dim: int, start: MemoryStart = "empty", most_blocks: int = 1000
    ) -> None:
        super().__init__()
        self.size = size
        self.block = block_size(size, most_blocks)
        self.register_buffer("pushed", torch.zeros(num_groups, dtype=torch.long))
        self.register_buffer("blocks", torch.zeros(num_groups, size // self.block, 2, embed_dim))
        self.register_buffer("sums", torch.zeros(num_groups, embed_dim, dtype=torch.float64))
        self.register_buffer("square_sums", torch.zeros(num_groups, embed_dim, dtype=torch.float64))
        if start == "random":
            for group in range(num_groups):  # one at a time: all features at once are what blocks avoid
                self._fill(group, F.normalize(torch.randn(size, embed_dim), dim=-1))

    def _fill(self, group: int, features: Tensor) -> None:
        blocks = features.view(-1, self.block, features.shape[1])
        self.blocks[group] = torch.stack([blocks.sum(1), blocks.square().sum(1)], dim=1)
        self.sums[group], self.square_sums[group] = self.blocks[group].double().sum(0)
        self.pushed[group] = self.size

    @property
    def pointer(self) -> Tensor:
        """The slot in [0, M) that the next feature of each group goes to. Shape ``(G,)``."""
        return self.pushed % self.size

    @property
    def count(self) -> Tensor:
        """How many features each group's moments are of. Shape ``(G,)``, int64."""
        full = self.size - self.block + 1 + (self.pushed - 1) % self.block
        return torch.where(self.pushed > self.size, full, self.pushed)

    @torch.no_grad()
    def push(self, features: Tensor, groups: Tensor) -> None:
        """Write features behind the pointers of their groups, in the order given, over the oldest.

        Args:
            features: Shape ``(n, D)``, at most M - B + 1 of any one group (see :func:`places_of_even_choice`).
            groups: Their groups. Shape ``(n,)``, int64.

        Raises:
            ValueError: More features of one group than its ring can take at once.
        """
        rank, arriving = rank_in_group(groups, len(self.pushed))
        most = self.size - self.block + 1
        if arriving.max() > most:
            raise ValueError(f"pushed {int(arriving.max())} features to a group that takes {most}; choose fewer")
        features = features.to(self.blocks.dtype)
        slot = (self.pushed[groups] + rank) % self.size
        blocks = self.blocks.flatten(0, 1)  # (G * K, 2, D), a view
        touched, block = (groups * self.blocks.shape[1] + slot // self.block).unique(return_inverse=True)
        old = blocks[touched]
        kept = torch.ones_like(touched)
        kept[block[slot % self.block == 0]] = 0  # its slots come round again: what it holds is forgotten
        new = old * kept[:, None, None]
        new += _sum_rows(torch.stack([features, features.square()], dim=1), block, len(touched))
        blocks[touched] = new
        # what the stored numbers changed by, so that the sums are those of the blocks, without drift
        changed, group = (touched // self.blocks.shape[1]).unique(return_inverse=True)
        change = _sum_rows(new.double() - old.double(), group, len(changed))
        self.sums[changed] += change[:, 0]
        self.square_sums[changed] += change[:, 1]
        self.pushed += arriving


def _sum_rows(rows: Tensor, index: Tensor, num_sums: int) -> Tensor:
    """Sum the rows of equal index, always in the same order (``index_add_`` has none on a GPU).

    Args:
        rows: Shape ``(n, ...)``.
        index: In ``[0, num_sums)``. Shape ``(n,)``, int64.
        num_sums: S.

    Returns:
        Shape ``(S, ...)``.
    """
    rank, counts = rank_in_group(index, num_sums)
    padded = rows.new_zeros((num_sums, int(counts.max()) if len(rows) else 0, *rows.shape[1:]))
    padded[index, rank] = rows
    return padded.sum(1)


def rank_in_group(groups: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Position of every element among those of its group, in order, and the sizes of the groups.

    Args:
        groups: Shape ``(n,)``, int64 in ``[0, num_groups)``.
        num_groups: G.

    Returns:
        Ranks ``(n,)`` from 0, and counts ``(num_groups,)``.
    """
    counts = torch.bincount(groups, minlength=num_groups)
    order = groups.argsort(stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(groups)
    rank[order] = torch.arange(len(groups), device=groups.device) - first[groups[order]]
    return rank, counts


def places_of_even_choice(counts: Tensor, most: int) -> Tensor:
    """Which elements of each group to keep: all, or ``most`` evenly spaced from the first to the last.

    Args:
        counts: Sizes of the groups. Shape ``(G,)``, int64.
        most: How many to keep of a group, at least 1.

    Returns:
        Places in [0, count), ascending; -1 behind the last. Shape ``(G, most)``, int64.

    Source: the published code of Liang et al., GMMSeg (NeurIPS 2022); the places are those of
    ``torch.linspace(0, count - 1, most, dtype=int64)`` on a CPU.
    """
    place = torch.arange(most, device=counts.device)
    last = (counts - 1).double()[:, None]
    step = last / max(most - 1, 1)
    even = torch.where(place < max(most // 2, 1), step * place, last - step * (most - 1 - place)).long()
    few = torch.where(place < counts[:, None], place, -1)
    return torch.where(counts[:, None] > most, even, few)
