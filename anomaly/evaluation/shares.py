"""How images are shared out over processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.images import image_size
from anomaly.evaluation.score_maps import Store
from anomaly.scores.registry import Score
from anomaly.utils.processes import Processes


def image_share(
    images: Sequence[tuple[str, Path]], scores: Sequence[Score], store: Store | None, processes: Processes
) -> list[int]:
    """Indices of the images that this process predicts.

    They are shared out by the number of their pixels. An image whose scores are stored costs a tenth.

    Args:
        images: Name and file of each image.
        scores: The scores that are computed.
        store: Stored scores, from before the first image is predicted; None if there are none.
        processes: The processes that share the images.
    """
    if processes.size == 1:
        return list(range(len(images)))
    names = [score.name for score in scores]

    def cost(name: str, path: Path) -> float:
        width, height = image_size(path) or (1, 1)
        return width * height * (0.1 if store is not None and store.has(name, names) else 1.0)

    return processes.share(processes.from_first([cost(name, path) for name, path in images]))


def frame_share(dataset: Dataset, scores: Sequence[Score], store: Store | None, processes: Processes) -> list[int]:
    """Indices of the frames of a dataset that this process evaluates, shared out as :func:`image_share` does.

    Args:
        dataset: The dataset.
        scores: The scores that are evaluated.
        store: Stored scores, from before the first frame is evaluated; None if there are none.
        processes: The processes that share the frames.
    """
    return image_share([(files.id, files.image) for files in dataset.files], scores, store, processes)
