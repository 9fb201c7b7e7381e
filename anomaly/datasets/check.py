"""A check of a dataset that reads every file and reports all faults, not only the first."""

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
    """Content and faults of a dataset.

    Args:
        frames: Number of frames that could be read.
        sizes: Number of frames by width and height.
        values: Number of pixels by label value, as stored in the files.
        known: Number of known pixels.
        anomaly: Number of anomaly pixels.
        ignored: Number of ignored pixels.
        smallest_share: Smallest share of anomaly pixels in a frame.
        largest_share: Largest share of anomaly pixels in a frame.
        without_anomaly: Frames without an anomaly.
        notes: Differences from the published dataset that may be intended.
        faults: Faults, one sentence each; empty if there are none.
        fingerprint: Fingerprint of the frames that could be read.
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
        """Share of anomaly pixels among all pixels, in 0..1; NaN without pixels."""
        total = self.known + self.anomaly + self.ignored
        return self.anomaly / total if total else float("nan")


def check_dataset(
    dataset: Dataset, known: Sequence[str] = (), *, anomalies: bool = True, on_frame: Callable[[], None] | None = None
) -> SetReport:
    """Read every frame of a dataset, on all cores, and count its pixels.

    Args:
        dataset: The dataset.
        known: Faults that are known already; they come first in the report.
        anomalies: Whether the dataset should have anomalies; otherwise frames without one are not reported.
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
        for result in pool.map(read, range(len(dataset))):
            if isinstance(result, str):
                faults.append(result)
            else:
                name, size, counts, meaning = result
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
