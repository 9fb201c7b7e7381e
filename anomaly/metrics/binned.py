"""Metrics in constant memory: pixels are counted in bins, which gives certain bounds of the exact values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.metrics.definitions import Levels, at_threshold, measure
from anomaly.metrics.functional.bins import BinnedCurve, Histogram, histogram
from anomaly.metrics.functional.curve import Scores
from anomaly.metrics.functional.thinned import ThinnedCurve
from anomaly.metrics.measured import Bounds, FrameCounts, Measured, check_stored
from anomaly.utils.background import read_ahead

_Bounded = tuple[dict[str, float], dict[str, Bounds]]

OPEN = 3 * 2**24  # bytes of the scores of recent frames, kept separately so that a frame can still be removed
ROUNDING = 1e-12  # more than the rounding error of any value
UNBOUNDED = ("best_f1_threshold",)  # metrics that depend on more than true and false positives


class BinnedScores:
    """Accumulates the scores of frames as counts in bins.

    Args:
        levels: Levels and threshold of the metrics.
    """

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self.counts: dict[str, FrameCounts] = {}
        self._per_frame: dict[str, _Bounded] = {}
        self._at_threshold: dict[str, tuple[int, int]] = {}
        self._open: dict[str, tuple[Scores, Scores]] = {}
        self._closed: Histogram | None = None

    def add(self, frame_id: str, known: Scores, anomaly: Scores, ignored: int, *, ascending: bool = False) -> None:
        """Add a new frame.

        Args:
            frame_id: Name of the frame, not added before.
            known: Scores of its known pixels, in any order. Shape ``(N,)``.
            anomaly: Scores of its anomaly pixels, in any order. Shape ``(P,)``.
            ignored: Number of its ignored pixels.
            ascending: Whether both are sorted; it makes no difference here.
        """
        self.counts[frame_id] = FrameCounts(known.size, anomaly.size, ignored)
        threshold = self._levels.threshold
        if threshold is not None:
            tp, fp = (int(np.count_nonzero(scores >= np.float64(threshold))) for scores in (anomaly, known))
            self._at_threshold[frame_id] = (tp, fp)
        self._open[frame_id] = (known, anomaly)
        self._close()

    def take(self, other: BinnedScores) -> None:
        """Add the frames of ``other`` that are not included yet.

        Raises:
            InputError: Both have counted the same frame in their bins, so that it cannot be removed from one of them.
        """
        twice = (self.counts.keys() - self._open.keys()) & (other.counts.keys() - other._open.keys())
        if twice:
            raise InputError(
                f"cannot merge: frame {min(twice)!r} ({len(twice)} in all) is in both parts, and binned mode cannot "
                "remove it from one; give each frame to one part, or use exact mode"
            )
        for frame_id in self._open.keys() & (other.counts.keys() - other._open.keys()):
            del self._open[frame_id]
        if other._closed is not None:
            self._closed = other._closed if self._closed is None else self._closed + other._closed
        self._open |= {frame_id: scores for frame_id, scores in other._open.items() if frame_id not in self.counts}
        self.counts = {**other.counts, **self.counts}
        self._per_frame = {**other._per_frame, **self._per_frame}
        self._at_threshold = {**other._at_threshold, **self._at_threshold}
        self._close()

    def measure(self, levels: Levels) -> Measured:
        """Compute every metric with its bounds, pooled and for each frame.

        Args:
            levels: The levels given on construction.
        """
        counts = self._count(list(self._open), self._closed)
        curve = None if counts is None else BinnedCurve(counts)
        values, bounds = self._measure(curve, list(self.counts), per_image=False)
        thinned = ThinnedCurve()
        for part in [] if curve is None else curve.ties():
            thinned.add(part)
        per_frame = {name: self._per_frame[name][0] for name in sorted(self.counts)}
        per_frame_bounds = {name: self._per_frame[name][1] for name in sorted(self.counts)}
        return Measured(values, bounds, per_frame, per_frame_bounds, thinned.curve())

    def state(self) -> tuple[dict[str, Any], Iterator[npt.NDArray[Any]]]:
        """Return the state as values that JSON can hold, and as arrays.

        The arrays are the counts of known and anomaly pixels, then the scores of the frames not counted in bins yet.
        """
        closed = self._closed
        header = {
            "frames": [[name, *self.counts[name]] for name in self.counts],
            "figures": self._per_frame,
            "at_threshold": self._at_threshold,
            "open": list(self._open),
            "range": None if closed is None else [closed.lowest, closed.highest],
        }
        counts = [] if closed is None else [closed.known, closed.anomaly]
        return header, iter([*counts, *(scores for frame in self._open.values() for scores in frame)])

    def restore(self, header: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]) -> None:
        """Restore a state of :meth:`state`.

        Raises:
            ValueError: The state is not consistent; ``KeyError`` and ``TypeError`` if a part is missing or wrong.
        """
        self.counts = {str(name): FrameCounts(*map(int, counts)) for name, *counts in header["frames"]}
        self._per_frame = {
            name: (_floats(values), {metric: (float(low), float(high)) for metric, (low, high) in bounds.items()})
            for name, (values, bounds) in header["figures"].items()
        }
        self._at_threshold = {name: (int(tp), int(fp)) for name, (tp, fp) in header["at_threshold"].items()}
        closed = self.counts.keys() - set(header["open"])
        known, anomaly = (sum(self.counts[name][i] for name in closed) for i in (0, 1))
        if header["range"] is not None:
            lowest, highest = map(int, header["range"])
            self._closed = Histogram(lowest, highest, next(arrays), next(arrays))
            self._closed.check(known, anomaly)
        elif known or anomaly:
            raise ValueError("frames were counted, but there are no counts")
        for name in header["open"]:
            self._open[name] = (next(arrays), next(arrays))
            for scores, count in zip(self._open[name], self.counts[name], strict=False):
                check_stored(scores)
                if scores.size != count:
                    raise ValueError(f"frame {name!r} has {scores.size} scores for {count} pixels")
        if closed - self._per_frame.keys() or (
            self._levels.threshold is not None and self._at_threshold.keys() != self.counts.keys()
        ):
            raise ValueError("the values of a frame are missing")

    def _measure(self, curve: BinnedCurve | None, names: list[str], *, per_image: bool) -> _Bounded:
        """Compute values and bounds of the frames ``names``, whose common curve is given."""
        ties, best, worst = (
            measure(parts, self._levels, per_image=per_image)
            for parts in ([[]] * 3 if curve is None else (curve.ties(), curve.best(), curve.worst()))
        )
        bounds = {
            name: (min(best[name], worst[name]) - ROUNDING, max(best[name], worst[name]) + ROUNDING)
            for name in ties
            if name not in UNBOUNDED
        }
        if self._levels.threshold is not None:
            num_known, num_anomaly = (sum(self.counts[name][i] for name in names) for i in (0, 1))
            tp, fp = (sum(self._at_threshold[name][i] for name in names) for i in (0, 1))
            exact = at_threshold(tp, fp, num_anomaly if num_known else 0)
            ties |= exact
            bounds |= {name: (value, value) for name, value in exact.items()}
        return ties, bounds

    def _count(self, names: list[str], counts: Histogram | None) -> Histogram | None:
        """Add the scores of some frames to counts, and compute the values of each of these frames."""

        def work(name: str) -> tuple[Histogram | None, _Bounded]:
            frame = histogram(*self._open[name])
            curve = None if frame is None or not self.counts[name].defined else BinnedCurve(frame)
            return frame, self._per_frame.get(name) or self._measure(curve, [name], per_image=True)

        total = None if counts is None else replace(counts, known=counts.known.copy(), anomaly=counts.anomaly.copy())
        threads = os.cpu_count() or 1
        with closing(read_ahead(work, names, ahead=threads, threads=threads)) as done:
            for name, (frame, values) in zip(names, done, strict=True):
                if frame is not None:
                    if total is None:
                        total = frame
                    else:
                        total += frame
                self._per_frame[name] = values
        return total

    def _close(self) -> None:
        """Count the oldest frames in bins once too many are kept separately."""
        sizes = {name: known.nbytes + anomaly.nbytes for name, (known, anomaly) in self._open.items()}
        left = sum(sizes.values())
        oldest: list[str] = []
        while left > OPEN or (oldest and left > OPEN / 2):
            oldest.append(next(name for name in self._open if name not in oldest))
            left -= sizes[oldest[-1]]
        self._closed = self._count(oldest, self._closed)
        for name in oldest:
            del self._open[name]


def _floats(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
