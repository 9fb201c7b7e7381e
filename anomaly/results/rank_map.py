"""A map from scores to float16 that preserves their order, for formats that hold only float16."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 15361  # number of float16 values from 0 to 1
_KEPT = 1 << 14  # number of scores, at even ranks, that represent a frame


@dataclass(frozen=True)
class RankMap:
    """A monotone map from scores to float16: equal scores stay equal, and a higher score never gets a lower value.

    ``RankMap.of`` fits the map to a dataset. If float16 represents all scores exactly, they stay unchanged. Otherwise
    the values are those of float16 in [0, 1]. If there are at most as many distinct scores as values, each score gets
    its own value. If there are more, all scores between two neighbouring cuts share a value; the cuts are at even
    ranks.

    Args:
        cuts: Ascending. The value of a score is determined by the number of cuts that are not above it. None leaves
            scores unchanged.
    """

    cuts: npt.NDArray[np.float64] | None

    @classmethod
    def of(cls, maps: Iterable[npt.NDArray[np.floating[Any]]]) -> RankMap:
        """Fit the map to all score maps of a dataset, in one pass and in any order."""
        distinct: npt.NDArray[np.float64] | None = np.empty(0)
        ranked: list[npt.NDArray[np.float64]] = []
        as_they_are = True
        for score in maps:
            values = np.unique(score).astype(np.float64)
            as_they_are = as_they_are and _held(values)
            if distinct is not None:
                distinct = np.union1d(distinct, values)
                distinct = distinct if len(distinct) <= LEVELS else None
            in_order = np.sort(score, axis=None)
            ranked.append(
                in_order[np.linspace(0, score.size - 1, min(_KEPT, score.size)).astype(int)].astype(np.float64)
            )
        if as_they_are:
            return cls(None)
        if distinct is not None:
            return cls(distinct[1:])
        pooled = np.sort(np.concatenate(ranked))
        cuts = np.unique(pooled[np.linspace(0, len(pooled) - 1, LEVELS + 1).astype(int)[1:-1]])
        return cls(cuts)

    def __call__(self, score: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float16]:
        """Map scores to float16. The shape stays the same."""
        if self.cuts is None:
            return score.astype(np.float16)
        return _VALUES[self.levels(score)]

    def levels(self, score: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """Index of the value that each score gets, counted from the lowest value. The shape stays the same."""
        cuts = np.empty(0) if self.cuts is None else self.cuts
        return np.searchsorted(cuts, score, side="right")


@dataclass
class Ties:
    """Counts pixels with different scores that a map made equal.

    Args:
        low: Lowest score of each value.
        high: Highest score of each value.
        count: Number of pixels of each value.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> Ties:
        """Counts without any pixels."""
        return cls(np.full(LEVELS, np.inf), np.full(LEVELS, -np.inf), np.zeros(LEVELS, np.int64))

    def add(self, rank_map: RankMap, score: npt.NDArray[np.floating[Any]]) -> None:
        """Count the pixels of a score map."""
        if rank_map.cuts is None:
            self.count[0] += score.size
            return
        levels = rank_map.levels(score).ravel()
        np.minimum.at(self.low, levels, score.ravel())
        np.maximum.at(self.high, levels, score.ravel())
        self.count += np.bincount(levels, minlength=LEVELS)

    @property
    def pixels(self) -> int:
        """Number of pixels that share their value with a pixel of a different score."""
        return int(self.count[self.low < self.high].sum())

    @property
    def total(self) -> int:
        """Number of pixels."""
        return int(self.count.sum())

    @property
    def values(self) -> int:
        """Number of values in use; 0 if the scores stayed unchanged."""
        return int((self.low <= self.high).sum())


_VALUES = np.arange(LEVELS, dtype=np.uint16).view(
    np.float16
)  # the bit patterns of float16 from 0 up are in the order of its values


def _held(values: npt.NDArray[np.float64]) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16) == values).all())
