"""A memory of recent features for every component of every class, stored as moments of blocks of features."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MemoryStart = Literal["empty", "random"]


def block_size(size: int, most_blocks: int) -> int:
    """Return the smallest number of features per block that divides ``size`` into at most ``most_blocks`` blocks."""
    return next(b for b in range(-(-size // most_blocks), size + 1) if size % b == 0)


class FeatureMemory(nn.Module):
    """A ring buffer of the last M features of each group, stored as moments.

    A group is one component of one class, numbered ``class * P + component``. EM needs only sums and sums of
    squares over the ring. So the ring stores these for *blocks* of B consecutive features instead of the features:
    2 * D numbers per block instead of B * D. A block is discarded as a whole when its first slot is written again.
    A full ring therefore covers the last M - B + 1 to M features; with B = 1 it is an ordinary ring buffer. The
    sums over the whole ring are updated with every write, so reading the moments costs the same for any M.

    Args:
        num_groups: Number of rings, G.
        size: Features kept per group, M.
        embed_dim: Size of a feature, D.
        start: ``"empty"`` counts only features that were pushed. ``"random"`` reproduces the published code: the
            rings start full of random unit vectors, which count as data until they are overwritten.
        most_blocks: Largest number of blocks K per ring. A ring of at most this size stores each feature by itself.

    Shape:
        ``pushed (G,)``, int64: features pushed so far, plus M for a ring that started full.
        ``blocks (G, K, 2, D)``, float32: sum and sum of squares of each block.
        ``sums``, ``square_sums (G, D)``, float64: totals over the blocks.
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
            for group in range(num_groups):  # one at a time: all features together need the memory that blocks save
                self._fill(group, F.normalize(torch.randn(size, embed_dim), dim=-1))

    def _fill(self, group: int, features: Tensor) -> None:
        blocks = features.view(-1, self.block, features.shape[1])
        self.blocks[group] = torch.stack([blocks.sum(1), blocks.square().sum(1)], dim=1)
        self.sums[group], self.square_sums[group] = self.blocks[group].double().sum(0)
        self.pushed[group] = self.size

    @property
    def pointer(self) -> Tensor:
        """Slot in ``[0, M)`` of each group's next feature. Shape ``(G,)``, int64."""
        return self.pushed % self.size

    @property
    def count(self) -> Tensor:
        """Number of features that each group's moments cover. Shape ``(G,)``, int64."""
        full = self.size - self.block + 1 + (self.pushed - 1) % self.block
        return torch.where(self.pushed > self.size, full, self.pushed)

    @torch.no_grad()
    def push(self, features: Tensor, groups: Tensor) -> None:
        """Append features to the rings of their groups, in the order given, overwriting the oldest.

        Args:
            features: Features, at most M - B + 1 of each group; :func:`places_of_even_choice` chooses that many.
                Shape ``(n, D)``.
            groups: Group of each feature. Shape ``(n,)``, int64.

        Raises:
            ValueError: A group has more features than its ring takes at once.
        """
        rank, arriving = rank_in_group(groups, len(self.pushed))
        most = self.size - self.block + 1
        if arriving.max() > most:
            raise ValueError(
                f"expected at most {most} features of each group, found {int(arriving.max())}; push fewer at once"
            )
        features = features.to(self.blocks.dtype)
        slot = (self.pushed[groups] + rank) % self.size
        blocks = self.blocks.flatten(0, 1)  # (G * K, 2, D), a view
        touched, block = (groups * self.blocks.shape[1] + slot // self.block).unique(return_inverse=True)
        old = blocks[touched]
        # Where the first slot of a block is written again, discard what the block holds.
        kept = torch.ones_like(touched).scatter_reduce_(0, block, (slot % self.block != 0).long(), "amin")
        new = old * kept[:, None, None]
        new += _sum_rows(torch.stack([features, features.square()], dim=1), block, len(touched))
        blocks[touched] = new
        # Add the change of the stored numbers, so that the sums match the blocks without drift.
        changed, group = (touched // self.blocks.shape[1]).unique(return_inverse=True)
        change = _sum_rows(new.double() - old.double(), group, len(changed))
        self.sums[changed] += change[:, 0]
        self.square_sums[changed] += change[:, 1]
        self.pushed += arriving


def _sum_rows(rows: Tensor, index: Tensor, num_sums: int) -> Tensor:
    """Sum the rows of equal index in a fixed order (``index_add_`` has no fixed order on a GPU).

    Args:
        rows: Rows to sum. Shape ``(n, ...)``.
        index: Index of each row, in ``[0, num_sums)``. Shape ``(n,)``, int64.
        num_sums: Number of sums, S.

    Returns:
        Sums. Shape ``(S, ...)``.
    """
    rank, counts = rank_in_group(index, num_sums)
    padded = rows.new_zeros((num_sums, int(counts.max()) if len(rows) else 0, *rows.shape[1:]))
    padded[index, rank] = rows
    return padded.sum(1)


def rank_in_group(groups: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Return the position of each element within its group, in order of appearance, and the sizes of the groups.

    Args:
        groups: Group of each element. Shape ``(n,)``, int64 in ``[0, num_groups)``.
        num_groups: Number of groups, G.

    Returns:
        Positions ``(n,)`` from 0, and sizes ``(G,)``, both int64.
    """
    order, first, counts = sort_by_group(groups, num_groups)
    rank = torch.empty_like(groups)
    rank[order] = torch.arange(len(groups), device=groups.device) - first[groups[order]]
    return rank, counts


def sort_by_group(groups: Tensor, num_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sort elements by group, and count those of each group, without waiting for a GPU (``bincount`` waits for it).

    Args:
        groups: Group of each element. Shape ``(n,)``, int64 in ``[0, num_groups)``.
        num_groups: Number of groups, G.

    Returns:
        Indices of the elements by group, in order of appearance within each, ``(n,)``; where each group starts among
        them, ``(G,)``; and the sizes of the groups, ``(G,)``; all int64.
    """
    ascending, order = groups.sort(stable=True)
    ends = torch.searchsorted(ascending, torch.arange(num_groups, device=groups.device), right=True)
    counts = ends.diff(prepend=ends.new_zeros(1))
    return order, ends - counts, counts


def places_of_even_choice(counts: Tensor, most: int) -> Tensor:
    """Choose which elements of each group to keep: all, or ``most`` evenly spaced from the first to the last.

    Args:
        counts: Sizes of the groups. Shape ``(G,)``, int64.
        most: Largest number of elements to keep per group, at least 1.

    Returns:
        Ascending positions in ``[0, count)``, padded with -1. Shape ``(G, most)``, int64. Where elements are
        dropped, they equal ``torch.linspace(0, count - 1, most, dtype=int64)`` on a CPU.

    Source: the published code of Liang et al., GMMSeg (NeurIPS 2022).
    """
    place = torch.arange(most, device=counts.device)
    last = (counts - 1).double()[:, None]
    step = last / max(most - 1, 1)
    even = torch.where(place < max(most // 2, 1), step * place, last - step * (most - 1 - place)).long()
    few = torch.where(place < counts[:, None], place, -1)
    return torch.where(counts[:, None] > most, even, few)
