"""What an evaluation tells of its frames while it runs: pictures, report views and files plug in here, from above."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from anomaly.datasets.dataset import Dataset
from anomaly.evaluation.score_maps import TopClasses
from anomaly.frames import Frame, ScoreMap
from anomaly.metrics.bootstrap import FrameTable
from anomaly.metrics.score_curves import ScoreCurves
from anomaly.results.records import DatasetResult
from anomaly.results.score_store import ScoreWriter

Indices = npt.NDArray[np.intp]
FIRST = 4  # frames of each dataset that are visited before all others


@dataclass(frozen=True)
class FrameResult:
    """One frame with its scores.

    Args:
        dataset: Name of its dataset.
        frame: The frame.
        scores: Its score maps after post-processing, by name. Shape: ``(H, W)``.
        raw: Its score maps before post-processing, by name. Shape: ``(H, W)``.
        computed: Whether the model computed them; False where they were read from a store.
        classes: The model's class of each pixel, where somebody asked for it. Shape: ``(H, W)``, int64.
        top_classes: Gives the most likely classes at some rows and columns; None where no model was asked.
    """

    dataset: str
    frame: Frame
    scores: Mapping[str, ScoreMap]
    raw: Mapping[str, ScoreMap]
    computed: bool
    classes: npt.NDArray[np.int64] | None = None
    top_classes: Callable[[Indices, Indices], TopClasses | None] | None = None


@dataclass(frozen=True)
class DatasetEnd:
    """What is known of a dataset when its last frame was measured.

    Args:
        result: Its metrics.
        classes: Names of the model's classes; empty where they are not known.
        curves: What a report draws of each score, where a callback asks for curves.
        tables: Each frame's counts at shared thresholds by score, for paired comparisons; likewise.
    """

    result: DatasetResult
    classes: tuple[str, ...]
    curves: Mapping[str, ScoreCurves] = field(default_factory=dict)
    tables: Mapping[str, FrameTable] = field(default_factory=dict)


class Callback:
    """Base class; each method does nothing by default.

    All methods but :meth:`wants_classes` run in one background thread, in the order of the frames.

    Attributes:
        needs_curves: Whether :meth:`on_dataset_end` wants curves and tables.
    """

    needs_curves: bool = False

    def wants_classes(self, dataset: str, frame_id: str) -> bool:
        """Whether the model's classes of a frame are wanted, for which it is asked even where scores are stored."""
        return False

    def on_start(self, datasets: Sequence[Dataset], scores: Sequence[str]) -> None:
        """Before the first frame."""

    def on_frame(self, result: FrameResult) -> None:
        """After a frame was measured. The first frames are :func:`first_frames` of every dataset."""

    def on_dataset_end(self, end: DatasetEnd) -> None:
        """After the last frame of a dataset."""

    def on_end(self) -> None:
        """After the last dataset."""


class ScoreMapCallback(Callback):
    """Writes score maps before post-processing, by dataset.

    Args:
        writers: One for each dataset whose maps are wanted.
    """

    def __init__(self, writers: Mapping[str, ScoreWriter]) -> None:
        self._writers = writers

    def on_frame(self, result: FrameResult) -> None:
        """Write what the model computed."""
        writer = self._writers.get(result.dataset)
        if writer is not None and result.computed:
            for name, score in result.raw.items():
                writer.write(result.frame.id, name, score, result.frame.image_hash)


class ProgressCallback(Callback):
    """Calls a function with a dataset's name after each of its frames."""

    def __init__(self, on_frame: Callable[[str], None]) -> None:
        self._on_frame = on_frame

    def on_frame(self, result: FrameResult) -> None:
        """Tell of it."""
        self._on_frame(result.dataset)


def first_frames(count: int) -> list[int]:
    """Places of the frames that are visited first, evenly spaced: colour scales of pictures are taken from these."""
    return sorted({round(i) for i in np.linspace(0, count - 1, FIRST)})
