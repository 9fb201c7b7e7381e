"""A map from scores to float16 that keeps their order, for formats that hold no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 15361  # float16 values from 0 to 1
_KEPT = 1 << 14  # evenly ranked scores that stand for a frame


@dataclass(frozen=True)
class RankMap:
    """Scores to float16, never swapping two: equal scores stay equal, and a higher one never gets a lower value.

    ``RankMap.of`` fits it to a set. Scores that float16 holds as they are stay as they are. Else the values are those
    of float16 in [0, 1], spent where the scores are: with no more distinct scores than values each score has its own,
    else the scores between two neighbouring cuts share one, with cuts at even ranks.

    Args:
        cuts: Ascending; a score has as many values below its own as there are cuts not above it. ``None``: as it is.
    """

    cuts: npt.NDArray[np.float64] | None

    @classmethod
    def of(cls, maps: Iterable[npt.NDArray[np.floating[Any]]]) -> RankMap:
        """Fit it to all maps of a set, in one pass; their order does not matter."""
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
        """Map scores. Shape: as given."""
        if self.cuts is None:
            return score.astype(np.float16)
        return _VALUES[self.levels(score)]

    def levels(self, score: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """Which value each score gets, as its place among the values from the lowest up; shape as given."""
        cuts = np.empty(0) if self.cuts is None else self.cuts
        return np.searchsorted(cuts, score, side="right")


@dataclass
class Ties:
    """What a map made equal that was not.

    Args:
        low: The lowest score that got each value.
        high: The highest.
        count: Number of pixels that got it.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> Ties:
        """Of no pixels yet."""
        return cls(np.full(LEVELS, np.inf), np.full(LEVELS, -np.inf), np.zeros(LEVELS, np.int64))

    def add(self, rank_map: RankMap, score: npt.NDArray[np.floating[Any]]) -> None:
        """Count a map's pixels."""
        if rank_map.cuts is None:
            self.count[0] += score.size
            return
        levels = rank_map.levels(score).ravel()
        np.minimum.at(self.low, levels, score.ravel())
        np.maximum.at(self.high, levels, score.ravel())
        self.count += np.bincount(levels, minlength=LEVELS)

    @property
    def pixels(self) -> int:
        """Number of pixels that share their value with a pixel of another score."""
        return int(self.count[self.low < self.high].sum())

    @property
    def total(self) -> int:
        """Number of pixels."""
        return int(self.count.sum())

    @property
    def values(self) -> int:
        """Number of values in use; 0 where scores stayed as they are."""
        return int((self.low <= self.high).sum())


_VALUES = np.arange(LEVELS, dtype=np.uint16).view(np.float16)  # the bits of float16 from 0 up count its values in order


def _held(values: npt.NDArray[np.float64]) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16) == values).all())
