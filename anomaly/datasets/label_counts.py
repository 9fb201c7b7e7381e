"""What the labels of a dataset hold, before anything is measured on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN


@dataclass(frozen=True)
class LabelCounts:
    """How many pixels of a dataset have which label.

    Args:
        frames: Number of frames.
        known: Pixels that are known.
        anomaly: Pixels that are anomalous.
        ignored: Pixels that are left out.
        values: Number of pixels by label value, as the files have them.
    """

    frames: int
    known: int
    anomaly: int
    ignored: int
    values: Mapping[int, int]

    def __str__(self) -> str:
        """Give the shares in a line."""
        total = max(1, self.known + self.anomaly + self.ignored)
        parts = (("known", self.known), ("anomaly", self.anomaly), ("ignored", self.ignored))
        shares = ", ".join(f"{name} {100 * count / total:.2f} %" for name, count in parts)
        return f"{self.frames} frames; {shares} of the pixels (label values {shares_of(self.values)})"


def count_labels(dataset: Dataset, *, on_frame: Callable[[], None] | None = None) -> LabelCounts:
    """Read every label map of a dataset, on all cores; images are not decoded.

    Args:
        dataset: The dataset.
        on_frame: Called after each frame.

    Raises:
        InputError: A label cannot be read, differs from its image in size, or has a value without a meaning.
    """
    values, meanings = np.zeros(256, np.int64), np.zeros(256, np.int64)

    def read(i: int) -> tuple[np.ndarray, np.ndarray]:
        label, counts = dataset.label(i)
        return counts, np.array([np.count_nonzero(label == meaning) for meaning in (KNOWN, ANOMALY, IGNORE)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for counts, found in pool.map(read, range(len(dataset))):
            values += counts
            meanings[[KNOWN, ANOMALY, IGNORE]] += found
            if on_frame is not None:
                on_frame()
    held = {int(value): int(values[value]) for value in np.flatnonzero(values)}
    known, anomaly, ignored = (int(meanings[meaning]) for meaning in (KNOWN, ANOMALY, IGNORE))
    return LabelCounts(len(dataset), known, anomaly, ignored, held)


def check_both_kinds(dataset: Dataset, counts: LabelCounts) -> None:
    """Refuse a dataset on which nothing can be measured.

    Raises:
        InputError: Not one pixel is anomalous, or not one is known.
    """
    for count, word in ((counts.anomaly, "anomalous"), (counts.known, "known")):
        if not count:
            raise InputError(
                f"{dataset.name}: expected known and anomalous pixels, found not one {word} pixel in {len(dataset)} "
                f"frames "
                f"of {dataset.root}, whose label values are {shares_of(counts.values)}; evaluate more frames (a higher "
                "--limit, or none), or check that these are the dataset's labels and what their values mean"
            )


def shares_of(values: Mapping[int, int]) -> str:
    """Put label values with their shares of the pixels in words: ``0 (93.10 %), 255 (6.90 %)``."""
    total = max(1, sum(values.values()))
    return ", ".join(f"{value} ({100 * count / total:.2f} %)" for value, count in sorted(values.items()))
