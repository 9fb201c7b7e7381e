"""Sorted scores, one run per frame and class, in memory or on disk, read by value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.curve import Scores
from anomaly.metrics.spill import SpillFile, Stored

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FrameScores:
    """The scores of one frame's pixels.

    Args:
        known: Of its known pixels, ascending.
        anomaly: Of its anomaly pixels, ascending.
        ignored: Number of its pixels left out.

    Shape:
        known ``(N,)``, anomaly ``(P,)``.
    """

    known: Scores
    anomaly: Scores
    ignored: int


class MemoryRun:
    """Ascending scores in memory."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self.size = scores.size
        self.nbytes = scores.nbytes
        self.dtype = scores.dtype

    def samples(self, stride: int) -> Scores:
        """Every ``stride``-th score, the first included."""
        return self._scores[::stride]

    def positions(self, values: Scores) -> Positions:
        """Count the scores below each of the values. Shape: ``(V,)`` to ``(V,)``."""
        return np.searchsorted(self._scores, _of_type(values, self.dtype), side="left")

    def read(self, start: int = 0, stop: int | None = None) -> Scores:
        """The scores ``start:stop``, not to be written to."""
        return self._scores[start:stop]


class FileRun:
    """Ascending scores in a spill file; of every ``stride`` scores one stays in memory, to find the others by."""

    def __init__(self, scores: Scores, file: SpillFile, stride: int) -> None:
        self._samples = scores[::stride].copy()
        self._stride = stride
        self._file = file
        self._stored: Stored = file.write(scores)
        self.size = scores.size
        self.dtype = scores.dtype

    def samples(self, stride: int) -> Scores:
        """Every ``stride``-th score, the first included; ``stride`` is a multiple of the run's own."""
        return self._samples[:: stride // self._stride]

    def positions(self, values: Scores) -> Positions:
        """Count the scores below each of the values. Shape: ``(V,)`` to ``(V,)``."""
        values = _of_type(values, self.dtype)
        found = np.searchsorted(self._samples, values, side="left")
        for i in np.flatnonzero(found):
            start = (int(found[i]) - 1) * self._stride
            window = self.read(start, min(start + self._stride, self.size))
            found[i] = start + np.searchsorted(window, values[i], side="left")
        return found

    def read(self, start: int = 0, stop: int | None = None) -> Scores:
        """The scores ``start:stop``."""
        return self._file.read(self._stored, start, self.size if stop is None else stop)


Run = MemoryRun | FileRun


def _of_type(values: Scores, dtype: np.dtype[Any]) -> Scores:
    """Give values in the scores' own type, those between two of its numbers as the upper: as many scores are below.

    Searching with another type would copy all the scores.
    """
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype)
    return np.where(rounded < values, np.nextafter(rounded, dtype.type(np.inf)), rounded)
