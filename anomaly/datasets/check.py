"""Every file of a set read and counted, with all its faults, not only the first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.fingerprint import Fingerprint
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN


@dataclass(frozen=True)
class SetReport:
    """What is in a set.

    Args:
        frames: Number of frames that could be read.
        sizes: Number of frames by width and height.
        values: Number of pixels by label value, as the files have them.
        known: Number of known pixels.
        anomaly: Number of anomalous pixels.
        ignored: Number of ignored pixels.
        smallest_share: The smallest share of a frame's pixels that are anomalous.
        largest_share: The largest.
        without_anomaly: Frames without an anomaly.
        notes: In what way it is not as published, where that may be meant.
        faults: What is wrong, a sentence each; empty where nothing is.
        fingerprint: That of the frames that could be read.
    """

    frames: int
    sizes: dict[tuple[int, int], int]
    values: dict[int, int]
    known: int
    anomaly: int
    ignored: int
    smallest_share: float
    largest_share: float
    without_anomaly: tuple[str, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]
    fingerprint: str

    @property
    def share(self) -> float:
        """The share of all pixels that are anomalous, in 0..1; NaN without a pixel."""
        total = self.known + self.anomaly + self.ignored
        return self.anomaly / total if total else float("nan")


def check_dataset(
    dataset: Dataset, known: Sequence[str] = (), *, anomalies: bool = True, on_frame: Callable[[], None] | None = None
) -> SetReport:
    """Read every frame, on all cores, and count.

    Args:
        dataset: The set.
        known: Faults that are known already; the set's notes are told apart from faults where there are none.
        anomalies: Whether it ought to have anomalies; without, frames without one are not told.
        on_frame: Called after each frame.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    values, meanings = np.zeros(256, np.int64), np.zeros(256, np.int64)
    shares: dict[str, float] = {}
    faults = list(known)
    fingerprint = Fingerprint()

    table = np.full(256, IGNORE)
    table[list(dataset.encoding)] = list(dataset.encoding.values())

    def read(i: int) -> tuple[str, tuple[int, int], np.ndarray, np.ndarray] | str:
        try:
            frame, counts = dataset.read(i)
        except InputError as error:
            return str(error)
        fingerprint.add(frame.id, frame.label)
        height, width = frame.label.shape
        if dataset.roi is None:
            return frame.id, (width, height), counts, np.bincount(table, counts, minlength=256).astype(np.int64)
        return frame.id, (width, height), counts, np.bincount(frame.label.ravel(), minlength=256)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(read, range(len(dataset))):
            if isinstance(found, str):
                faults.append(found)
            else:
                name, size, counts, meaning = found
                sizes[size] += 1
                values += counts
                meanings += meaning
                shares[name] = meaning[ANOMALY] / meaning.sum()
            if on_frame is not None:
                on_frame()
    return SetReport(
        frames=len(shares),
        sizes=dict(sizes),
        values={int(value): int(values[value]) for value in np.flatnonzero(values)},
        known=int(meanings[KNOWN]),
        anomaly=int(meanings[ANOMALY]),
        ignored=int(meanings[IGNORE]),
        smallest_share=min(shares.values(), default=float("nan")),
        largest_share=max(shares.values(), default=float("nan")),
        without_anomaly=tuple(name for name, share in shares.items() if share == 0) if anomalies else (),
        notes=dataset.notes,
        faults=tuple(faults),
        fingerprint=fingerprint.hexdigest(),
    )
