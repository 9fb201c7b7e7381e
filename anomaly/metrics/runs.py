"""Runs of sorted scores, one for the known and one for the anomaly pixels of a frame, in memory or on disk."""

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
    """Sorted scores of the pixels of one frame.

    Args:
        known: Scores of the known pixels, ascending.
        anomaly: Scores of the anomaly pixels, ascending.
        ignored: Number of ignored pixels.

    Shape:
        known ``(N,)``, anomaly ``(P,)``.
    """

    known: Scores
    anomaly: Scores
    ignored: int


class MemoryRun:
    """A run of ascending scores in memory."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self.size = scores.size
        self.nbytes = scores.nbytes
        self.dtype = scores.dtype

    def samples(self, stride: int) -> Scores:
        """Return every ``stride``-th score, starting with the first."""
        return self._scores[::stride]

    def positions(self, values: Scores) -> Positions:
        """Count the scores below each value. Shape ``(V,)`` to ``(V,)``."""
        return np.searchsorted(self._scores, _of_type(values, self.dtype), side="left")

    def read(self, start: int = 0, stop: int | None = None) -> Scores:
        """Return the scores ``start:stop``; do not write to them."""
        return self._scores[start:stop]


class FileRun:
    """A run of ascending scores in a spill file.

    Every ``stride``-th score stays in memory, to search the run.

    Args:
        scores: Ascending scores.
        file: File to store them in.
        stride: Distance of the scores that stay in memory.
    """

    def __init__(self, scores: Scores, file: SpillFile, stride: int) -> None:
        self._samples = scores[::stride].copy()
        self._stride = stride
        self._file = file
        self._stored: Stored = file.write(scores)
        self.size = scores.size
        self.dtype = scores.dtype

    def samples(self, stride: int) -> Scores:
        """Return every ``stride``-th score, starting with the first; ``stride`` is a multiple of the run's stride."""
        return self._samples[:: stride // self._stride]

    def positions(self, values: Scores) -> Positions:
        """Count the scores below each value. Shape ``(V,)`` to ``(V,)``."""
        values = _of_type(values, self.dtype)
        below = np.searchsorted(self._samples, values, side="left")
        for i in np.flatnonzero(below):
            start = (int(below[i]) - 1) * self._stride
            window = self.read(start, min(start + self._stride, self.size))
            below[i] = start + np.searchsorted(window, values[i], side="left")
        return below

    def read(self, start: int = 0, stop: int | None = None) -> Scores:
        """Read the scores ``start:stop``."""
        return self._file.read(self._stored, start, self.size if stop is None else stop)


Run = MemoryRun | FileRun


def _of_type(values: Scores, dtype: np.dtype[Any]) -> Scores:
    """Convert values to the type of the scores, rounded up, so that the number of scores below each stays the same.

    Searching with values of another type would copy all scores.
    """
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype)
    return np.where(rounded < values, np.nextafter(rounded, dtype.type(np.inf)), rounded)
