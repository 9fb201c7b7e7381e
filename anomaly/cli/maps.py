"""Score maps on disk, as tools open them."""

from __future__ import annotations

import sys
from pathlib import Path

from anomaly.datasets.dataset import Dataset
from anomaly.results.score_formats import Scale
from anomaly.results.score_store import StoredScores, open_dataset_scores


def open_maps(folder: Path, split: Dataset, scale: Scale | None) -> StoredScores:
    """Open the score maps of a set's frames, and tell of others that are there.

    Raises:
        InputError: As :func:`anomaly.results.score_store.open_dataset_scores`.
    """
    stored = open_dataset_scores(folder, split, scale=scale)
    if stored.unused:
        print(
            f"note: {len(stored.unused)} score maps in {stored.folder}, such as {stored.unused[0]}, are of no frame of "
            f"{split.name} and are left out",
            file=sys.stderr,
        )
    return stored
