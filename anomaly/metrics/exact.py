"""Exact metrics of any number of pixels: all scores are kept as sorted runs, in memory or on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.metrics import on_device
from anomaly.metrics.definitions import Levels, at_threshold, measure
from anomaly.metrics.functional.curve import (
    Counts,
    OperatingPoints,
    Scores,
    Tally,
    check_ascending,
    operating_points,
    part_of_curve,
)
from anomaly.metrics.functional.thinned import ThinnedCurve
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.measured import FrameCounts, Measured, check_stored
from anomaly.metrics.runs import FileRun, FrameScores, MemoryRun, Run
from anomaly.metrics.spill import SpillFile
from anomaly.utils.background import read_ahead

STRIDE = 1024  # every STRIDE-th score is a sample, used to cut blocks and to search runs on disk
BLOCK = 2**20  # scores per block, which are sorted together
BLOCKS = 256  # largest number of blocks, approximately


@dataclass(frozen=True)
class _Frame:
    known: Run
    anomaly: Run
    ignored: int


class ExactScores:
    """Accumulates all scores of frames.

    Runs stay in memory while all metrics that share the budget use at most half of it, and move to disk after that.
    The other half is for sorting, block by block. A block holds the scores of all runs between two values, so a curve
    is computed in parts.

    Args:
        memory_budget: Number of bytes, or a ledger that is shared with other metrics.
        spill_dir: Folder of the temporary file; by default that of the system.

    Attributes:
        device: The GPU that sorts blocks; None for the CPU. A pickle or copy has none.
    """

    def __init__(self, memory_budget: int | Ledger, spill_dir: Path | None = None) -> None:
        self.spill_dir = spill_dir
        self.device: Any = None
        self.counts: dict[str, FrameCounts] = {}
        self._ledger = Ledger.of(memory_budget)
        self._frames: dict[str, _Frame] = {}
        self._unsorted: list[Scores] = []
        self._in_memory: dict[str, None] = {}
        self._file: SpillFile | None = None

    def add(self, frame_id: str, known: Scores, anomaly: Scores, ignored: int, *, ascending: bool = False) -> None:
        """Add a new frame.

        Args:
            frame_id: Name of the frame, not added before.
            known: Scores of its known pixels, in any order; kept, and sorted in place. Shape ``(N,)``.
            anomaly: Scores of its anomaly pixels, in any order; kept, and sorted in place. Shape ``(P,)``.
            ignored: Number of its ignored pixels.
            ascending: Whether both are sorted already.

        Raises:
            InputError: The memory budget is used up and the disk is full; the frame is not added.
        """
        self._unsorted += [] if ascending else [known, anomaly]
        self._keep(frame_id, _Frame(MemoryRun(known), MemoryRun(anomaly), ignored))
        self.counts[frame_id] = FrameCounts(known.size, anomaly.size, ignored)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that represents every score: float32 or float64."""
        return np.result_type(
            np.float32, *{run.dtype for frame in self._frames.values() for run in (frame.known, frame.anomaly)}
        )

    def take(self, other: ExactScores) -> None:
        """Add the frames of ``other`` that are not included yet.

        Raises:
            InputError: The memory budget is used up and the disk is full.
        """
        other._sort()
        for name, frame in other._frames.items():
            if name not in self._frames:
                self._keep(name, frame)
                self.counts[name] = other.counts[name]

    def frames(self) -> Iterator[tuple[str, FrameScores]]:
        """Yield the sorted scores of each frame, in the order of the frames' ids."""
        self._sort()
        for name in sorted(self._frames):
            frame = self._frames[name]
            yield name, FrameScores(frame.known.read(), frame.anomaly.read(), frame.ignored)

    def counts_at(self, thresholds: Scores) -> tuple[Counts, Counts]:
        """Count the anomaly and the known pixels at or above each threshold. Shape ``(T,)`` to two ``(T,)``, int64."""
        self._sort()
        tp, fp = np.zeros(len(thresholds), np.int64), np.zeros(len(thresholds), np.int64)
        for frame in self._frames.values():
            tp += frame.anomaly.size - frame.anomaly.positions(thresholds)
            fp += frame.known.size - frame.known.positions(thresholds)
        return tp, fp

    def curve(self) -> Iterator[OperatingPoints]:
        """Yield the operating points of all pixels together, in parts, from the highest threshold down."""
        self._sort()
        runs = [frame.known for frame in self._frames.values()], [frame.anomaly for frame in self._frames.values()]
        blocks = _Blocks(*runs, None if self.device is None else partial(on_device.tally, device=self.device))
        threads = os.cpu_count() or 1
        with closing(read_ahead(blocks.points, blocks.with_anomaly, ahead=2 * threads, threads=threads)) as parts:
            yield from parts

    def measure(self, levels: Levels) -> Measured:
        """Compute every metric, pooled and for each frame.

        Args:
            levels: Levels and threshold of the metrics.
        """
        threads = os.cpu_count() or 1
        self._sort()
        names = sorted(self._frames)
        jobs = read_ahead(lambda name: self._measure_frame(name, levels), names, ahead=2 * threads, threads=threads)
        with closing(jobs) as values:
            per_frame = dict(zip(names, values, strict=True))
        thinned = ThinnedCurve()
        pooled = measure(self.curve(), levels, more=[thinned])
        if levels.threshold is not None:
            (tp,), (fp,) = self.counts_at(np.array([levels.threshold]))
            num_anomaly = sum(frame.anomaly.size for frame in self._frames.values())
            known = any(frame.known.size for frame in self._frames.values())
            pooled |= at_threshold(int(tp), int(fp), num_anomaly if known else 0)
        return Measured(pooled, {}, per_frame, {}, thinned.curve())

    def state(self) -> tuple[dict[str, Any], Iterator[Scores]]:
        """Return the ids and ignored pixels of the frames, and their sorted scores, known and anomaly in turn."""
        frames = ((frame.known, frame.anomaly) for _, frame in self.frames())
        ignored = [[name, self.counts[name].ignored] for name in sorted(self.counts)]
        return {"frames": ignored}, (scores for frame in frames for scores in frame)

    def restore(self, header: dict[str, Any], arrays: Iterator[Scores]) -> None:
        """Add the frames of a state from :meth:`state`.

        Raises:
            InputError: Scores are not ascending, or there is no room for them.
            ValueError: A frame is not valid otherwise.
        """
        for name, ignored in header["frames"]:
            known, anomaly = next(arrays), next(arrays)
            for kind, scores in (("known", known), ("anomaly", anomaly)):
                check_ascending(f"frame {name!r}, {kind}", scores)
                check_stored(scores)
            if not isinstance(name, str) or type(ignored) is not int or ignored < 0:
                raise ValueError(f"frame {name!r} has {ignored!r} ignored pixels")
            self.add(name, known, anomaly, ignored, ascending=True)

    def _measure_frame(self, name: str, levels: Levels) -> dict[str, float]:
        frame = self._frames[name]
        known, anomaly = frame.known.read(), frame.anomaly.read()
        if not known.size or not anomaly.size:
            return measure([], levels, per_image=True) | ({} if levels.threshold is None else at_threshold(0, 0, 0))
        values = measure([operating_points(known, anomaly)], levels, per_image=True)
        if levels.threshold is not None:
            tp, fp = (run.size - int(np.searchsorted(run, levels.threshold)) for run in (anomaly, known))
            values |= at_threshold(tp, fp, anomaly.size)
        return values

    def _sort(self) -> None:
        """Sort the scores added since the last call."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # sorting releases the interpreter's lock
            list(pool.map(np.ndarray.sort, self._unsorted))
        self._unsorted.clear()

    def _keep(self, name: str, frame: _Frame) -> None:
        """Keep a frame in memory, or move it and all other frames to disk if there is no room."""
        runs = [run for run in (frame.known, frame.anomaly) if isinstance(run, MemoryRun)]
        if self._ledger.hold(*runs):
            self._frames[name] = frame
            if runs:
                self._in_memory[name] = None
            return
        self._sort()
        if self._file is None:
            self._file = SpillFile(self.spill_dir)
        for each in list(self._in_memory):
            self._frames[each] = self._on_disk(self._frames[each], self._file)
            del self._in_memory[each]
        self._frames[name] = self._on_disk(frame, self._file)

    def _on_disk(self, frame: _Frame, file: SpillFile) -> _Frame:
        known, anomaly = (FileRun(run.read(), file, STRIDE) for run in (frame.known, frame.anomaly))
        return _Frame(known, anomaly, frame.ignored)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"device": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle or copy; if the ledger has no room, the next frame moves all of them to disk."""
        vars(self).update(state)
        for frame in self._frames.values():
            self._ledger.hold(*(run for run in (frame.known, frame.anomaly) if isinstance(run, MemoryRun)))


class _Blocks:
    """All scores, cut by value into blocks of about the same size; block 0 has the lowest scores.

    Args:
        known: Runs of known pixels.
        anomaly: Runs of anomaly pixels.
        count: Counts the pixels in a block, as :func:`anomaly.metrics.functional.curve.part_of_curve` takes it.
    """

    def __init__(
        self, known: list[Run], anomaly: list[Run], count: Callable[[Scores, Scores], Tally] | None = None
    ) -> None:
        self._known, self._anomaly, self._count = known, anomaly, count
        self._edges = _edges([*known, *anomaly])
        self._known_at, self._anomaly_at = self._positions(known), self._positions(anomaly)
        self._known_below, self._anomaly_below = self._known_at.sum(0), self._anomaly_at.sum(0)
        self.num_known, self.num_anomaly = int(self._known_below[-1]), int(self._anomaly_below[-1])
        self.with_anomaly = np.flatnonzero(np.diff(self._anomaly_below))[::-1].tolist()

    def points(self, block: int) -> OperatingPoints:
        """Compute the operating points in a block."""
        above = (self.num_anomaly - self._anomaly_below[block + 1], self.num_known - self._known_below[block + 1])
        if 0 < block < len(self._edges) and self._edges[block] == np.nextafter(self._edges[block - 1], math.inf):
            hits, ties = (np.diff(below[block : block + 2]) for below in (self._anomaly_below, self._known_below))
            value, totals = self._edges[block - 1 : block], (self.num_known, self.num_anomaly)
            return OperatingPoints(value, above[0] + hits, above[1] + ties, hits, ties, *totals)
        known = _gather(self._known, self._known_at[:, block : block + 2])
        anomaly = _gather(self._anomaly, self._anomaly_at[:, block : block + 2])
        return part_of_curve(known, anomaly, above, self.num_known, self.num_anomaly, self._count)

    def _positions(self, runs: list[Run]) -> Counts:
        """Count the scores of each run below each end of a block. Shape ``(R, blocks + 1)``."""
        at = np.zeros((len(runs), len(self._edges) + 2), np.int64)
        for row, run in zip(at, runs, strict=True):
            row[1:-1], row[-1] = run.positions(self._edges), run.size
        return at


def _edges(runs: list[Run]) -> Scores:
    """Choose the ascending values that separate blocks; a value of very many pixels gets its own block.

    Shape:
        ``(blocks - 1,)``.
    """
    dtype = np.result_type(np.float32, *{run.dtype for run in runs})
    samples = np.concatenate([run.samples(STRIDE) for run in runs] or [np.empty(0)]).astype(dtype)
    samples.sort()
    every = max(BLOCK, sum(run.size for run in runs) // BLOCKS) // STRIDE
    values, times = np.unique(samples[every::every], return_counts=True)
    return np.unique(np.concatenate([values, np.nextafter(values[times > 1], dtype.type(math.inf))]))


def _gather(runs: list[Run], at: Counts) -> Scores:
    """Copy the scores of all runs from ``at[:, 0]`` to ``at[:, 1]`` into a new array."""
    pieces = [run.read(start, stop) for run, (start, stop) in zip(runs, at.tolist(), strict=True) if start < stop]
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)
