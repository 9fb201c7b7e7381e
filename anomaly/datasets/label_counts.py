"""Counts of the labels of a dataset, taken before it is evaluated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from anomaly.utils.processes import ALONE, Processes


@dataclass(frozen=True)
class LabelCounts:
    """Number of pixels of a dataset with each label.

    Args:
        frames: Number of frames.
        known: Number of known pixels.
        anomaly: Number of anomaly pixels.
        ignored: Number of ignored pixels.
        values: Number of pixels by label value, as stored in the files.
    """

    frames: int
    known: int
    anomaly: int
    ignored: int
    values: Mapping[int, int]

    def __str__(self) -> str:
        """Describe the shares in a line."""
        total = max(1, self.known + self.anomaly + self.ignored)
        parts = (("known", self.known), ("anomaly", self.anomaly), ("ignored", self.ignored))
        shares = ", ".join(f"{name} {100 * count / total:.2f} %" for name, count in parts)
        return f"{self.frames} frames; {shares} of the pixels (label values {shares_of(self.values)})"


def count_labels(
    dataset: Dataset, *, on_frame: Callable[[], None] | None = None, processes: Processes = ALONE
) -> LabelCounts:
    """Read every label map of a dataset, on all cores, without decoding images.

    Args:
        dataset: The dataset.
        on_frame: Called after each frame of this process.
        processes: The processes that share the label maps.

    Returns:
        The counts of the whole dataset, on every process.

    Raises:
        InputError: A label cannot be read, differs from its image in size, or has an undefined value.
    """
    values, meanings = np.zeros(256, np.int64), np.zeros(256, np.int64)

    def read(i: int) -> tuple[np.ndarray, np.ndarray]:
        label, counts = dataset.label(i)
        return counts, np.array([np.count_nonzero(label == meaning) for meaning in (KNOWN, ANOMALY, IGNORE)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for counts, by_meaning in pool.map(read, processes.in_turn(range(len(dataset)))):
            values += counts
            meanings[[KNOWN, ANOMALY, IGNORE]] += by_meaning
            if on_frame is not None:
                on_frame()
    values, meanings = np.sum(processes.gather((values, meanings)), axis=0)
    held = {int(value): int(values[value]) for value in np.flatnonzero(values)}
    known, anomaly, ignored = (int(meanings[meaning]) for meaning in (KNOWN, ANOMALY, IGNORE))
    return LabelCounts(len(dataset), known, anomaly, ignored, held)


def check_both_kinds(dataset: Dataset, counts: LabelCounts) -> None:
    """Check that a dataset has known and anomaly pixels, so that metrics are defined.

    Args:
        dataset: The dataset.
        counts: Its label counts, from :func:`count_labels`.

    Raises:
        InputError: The dataset has no anomaly pixel, or no known pixel.
    """
    for count, word in ((counts.anomaly, "anomalous"), (counts.known, "known")):
        if not count:
            raise InputError(
                f"{dataset.name}: expected known and anomalous pixels, found not one {word} pixel in {len(dataset)} "
                f"frames of {dataset.root}, whose label values are {shares_of(counts.values)}; evaluate more frames (a "
                "higher --limit, or none), or check the label files and the meaning of their values"
            )


def shares_of(values: Mapping[int, int]) -> str:
    """Describe label values with their shares of the pixels: ``0 (93.10 %), 255 (6.90 %)``."""
    total = max(1, sum(values.values()))
    return ", ".join(f"{value} ({100 * count / total:.2f} %)" for value, count in sorted(values.items()))
