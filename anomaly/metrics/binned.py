"""Bounds of figures in constant memory: pixels counted in bins, and the exact figures certain to lie between."""

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
from anomaly.metrics.measured import FrameCounts, Interval, Measured, check_stored
from anomaly.utils.background import read_ahead

_Bounded = tuple[dict[str, float], dict[str, Interval]]

OPEN = 3 * 2**24  # bytes of the last frames' scores, which are kept apart so that they can be left out again
ROUNDING = 1e-12  # of a figure: more than the sums that make it can be wrong by
UNBOUNDED = ("best_f1_threshold",)  # figures that are no function of true and false positives alone


class BinnedScores:
    """Counts of the scores of the frames seen, in bins.

    Args:
        levels: Where figures are taken.
    """

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self.counts: dict[str, FrameCounts] = {}
        self._figures: dict[str, _Bounded] = {}
        self._at_threshold: dict[str, tuple[int, int]] = {}
        self._open: dict[str, tuple[Scores, Scores]] = {}
        self._closed: Histogram | None = None

    def add(self, frame_id: str, known: Scores, anomaly: Scores, ignored: int) -> None:
        """Add a frame that was not seen before."""
        self.counts[frame_id] = FrameCounts(known.size, anomaly.size, ignored)
        threshold = self._levels.threshold
        if threshold is not None:
            tp, fp = (int(np.count_nonzero(scores >= np.float64(threshold))) for scores in (anomaly, known))
            self._at_threshold[frame_id] = (tp, fp)
        self._open[frame_id] = (known, anomaly)
        self._close()

    def take(self, other: BinnedScores) -> None:
        """Take over the frames of ``other`` that were not seen before.

        Raises:
            InputError: A frame that both have seen is among the counts of both, where it cannot be left out any more.
        """
        twice = (self.counts.keys() - self._open.keys()) & (other.counts.keys() - other._open.keys())
        if twice:
            raise InputError(
                f"cannot merge: frame {min(twice)!r} ({len(twice)} in all) was seen by both parts, and binned counts "
                "cannot leave it out of one; give each frame to one part, or use exact mode"
            )
        for frame_id in self._open.keys() & (other.counts.keys() - other._open.keys()):
            del self._open[frame_id]
        if other._closed is not None:
            self._closed = other._closed if self._closed is None else self._closed + other._closed
        self._open |= {frame_id: scores for frame_id, scores in other._open.items() if frame_id not in self.counts}
        self.counts = {**other.counts, **self.counts}
        self._figures = {**other._figures, **self._figures}
        self._at_threshold = {**other._at_threshold, **self._at_threshold}
        self._close()

    def measure(self, levels: Levels) -> Measured:
        """Every figure, pooled and of each frame, with what bounds it; ``levels`` are those given at first."""
        counts = self._count(list(self._open), self._closed)
        curve = None if counts is None else BinnedCurve(counts)
        figures, bounds = self._measure(curve, list(self.counts), per_image=False)
        thinned = ThinnedCurve()
        for part in [] if curve is None else curve.ties():
            thinned.add(part)
        per_frame = {name: self._figures[name][0] for name in sorted(self.counts)}
        per_frame_bounds = {name: self._figures[name][1] for name in sorted(self.counts)}
        return Measured(figures, bounds, per_frame, per_frame_bounds, thinned.curve())

    def state(self) -> tuple[dict[str, Any], Iterator[npt.NDArray[Any]]]:
        """What was counted and measured, and the counts of both kinds, then the scores of the frames kept apart."""
        closed = self._closed
        header = {
            "frames": [[name, *self.counts[name]] for name in self.counts],
            "figures": self._figures,
            "at_threshold": self._at_threshold,
            "open": list(self._open),
            "range": None if closed is None else [closed.lowest, closed.highest],
        }
        counts = [] if closed is None else [closed.known, closed.anomaly]
        return header, iter([*counts, *(scores for frame in self._open.values() for scores in frame)])

    def restore(self, header: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]) -> None:
        """Become what :meth:`state` gave. Raises ``ValueError`` and the like where it is not consistent."""
        self.counts = {str(name): FrameCounts(*map(int, counts)) for name, *counts in header["frames"]}
        self._figures = {
            name: (_floats(figures), {figure: (float(low), float(high)) for figure, (low, high) in bounds.items()})
            for name, (figures, bounds) in header["figures"].items()
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
        if closed - self._figures.keys() or (
            self._levels.threshold is not None and self._at_threshold.keys() != self.counts.keys()
        ):
            raise ValueError("a frame's figures are missing")

    def _measure(self, curve: BinnedCurve | None, names: list[str], *, per_image: bool) -> _Bounded:
        """Figures and what bounds them, of frames that together have this curve."""
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
        """Add the counts of frames kept apart to others, and measure each of these frames."""

        def work(name: str) -> tuple[Histogram | None, _Bounded]:
            frame = histogram(*self._open[name])
            curve = None if frame is None or not self.counts[name].defined else BinnedCurve(frame)
            return frame, self._figures.get(name) or self._measure(curve, [name], per_image=True)

        total = None if counts is None else replace(counts, known=counts.known.copy(), anomaly=counts.anomaly.copy())
        threads = os.cpu_count() or 1
        with closing(read_ahead(work, names, ahead=threads, threads=threads)) as done:
            for name, (frame, figures) in zip(names, done, strict=True):
                if frame is not None:
                    if total is None:
                        total = frame
                    else:
                        total += frame
                self._figures[name] = figures
        return total

    def _close(self) -> None:
        """When too many frames are kept apart, count the oldest of them in with the others."""
        sizes = {name: known.nbytes + anomaly.nbytes for name, (known, anomaly) in self._open.items()}
        left = sum(sizes.values())
        oldest: list[str] = []
        while left > OPEN or (oldest and left > OPEN / 2):
            oldest.append(next(name for name in self._open if name not in oldest))
            left -= sizes[oldest[-1]]
        self._closed = self._count(oldest, self._closed)
        for name in oldest:
            del self._open[name]


def _floats(figures: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}
