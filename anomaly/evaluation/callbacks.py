"""Callbacks of the evaluation loop: heatmaps, report views, score-map files and progress plug in here."""

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
FIRST = 4  # number of frames of each dataset that are evaluated before all others


@dataclass(frozen=True)
class FrameResult:
    """One frame with its scores.

    Args:
        dataset: Name of the dataset.
        frame: The frame.
        scores: Score maps after post-processing, by name. Shape: ``(H, W)``, float32.
        raw: Score maps before post-processing, by name. Shape: ``(H, W)``, float32.
        computed: Whether the model computed them; False if they were read from a store.
        classes: Class that the model predicts for each pixel; None if no callback or metric asked for it. Shape:
            ``(H, W)``, int64.
        top_classes: Function that returns the most likely classes at given rows and columns; None if the model did not
            run.
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
    """The outcome for a dataset after its last frame.

    Args:
        result: Its metrics.
        classes: Names of the model's classes; empty if they are not known.
        curves: Curves of each score for the report; empty unless a callback sets ``needs_curves``.
        tables: Counts of each frame at shared thresholds, by score, for paired comparisons; empty unless a callback
            sets ``needs_curves``.
    """

    result: DatasetResult
    classes: tuple[str, ...]
    curves: Mapping[str, ScoreCurves] = field(default_factory=dict)
    tables: Mapping[str, FrameTable] = field(default_factory=dict)


class Callback:
    """Base class of callbacks for :func:`anomaly.evaluate`. Override the methods you need; by default they do nothing.

    All methods but :meth:`wants_classes` run in one background thread, in the order in which frames are evaluated.
    If several processes share an evaluation, each has its own callbacks: :meth:`on_frame` is called on the process that
    evaluates the frame, :meth:`on_dataset_end` on process 0, and the other methods on every process.

    Attributes:
        needs_curves: Whether :meth:`on_dataset_end` needs curves and tables.
    """

    needs_curves: bool = False

    def wants_classes(self, dataset: str, frame_id: str) -> bool:
        """Return whether :meth:`on_frame` needs the predicted classes of a frame. Runs in the reading thread.

        If so, the model predicts the frame even if its scores are stored.

        Args:
            dataset: Name of the dataset.
            frame_id: Name of the frame.
        """
        return False

    def on_start(self, datasets: Sequence[Dataset], scores: Sequence[str]) -> None:
        """Called before the first frame.

        Args:
            datasets: The datasets that are evaluated.
            scores: Names of the score maps, post-processing included.
        """

    def on_frame(self, result: FrameResult) -> None:
        """Called after a frame was measured. The :func:`first_frames` of all datasets come before all other frames.

        Args:
            result: The frame with its scores.
        """

    def on_first_frames(self) -> None:
        """Called after the :func:`first_frames` of all datasets that this process evaluates, even if it has none."""

    def on_dataset_end(self, end: DatasetEnd) -> None:
        """Called after the last frame of a dataset, on process 0, when every process has finished the dataset.

        Args:
            end: The metrics of the dataset.
        """

    def on_end(self) -> None:
        """Called after the last dataset."""


class ScoreMapCallback(Callback):
    """Writes score maps before post-processing, by dataset.

    Args:
        writers: A writer for each dataset whose maps are written.
    """

    def __init__(self, writers: Mapping[str, ScoreWriter]) -> None:
        self._writers = writers

    def on_frame(self, result: FrameResult) -> None:
        """Write the maps that the model computed."""
        writer = self._writers.get(result.dataset)
        if writer is not None and result.computed:
            for name, score in result.raw.items():
                writer.write(result.frame.id, name, score, result.frame.image_hash)


class ProgressCallback(Callback):
    """Calls a function after each frame.

    Args:
        on_frame: Called with the name of the frame's dataset.
    """

    def __init__(self, on_frame: Callable[[str], None]) -> None:
        self._on_frame = on_frame

    def on_frame(self, result: FrameResult) -> None:
        """Call the function."""
        self._on_frame(result.dataset)


def first_frames(count: int) -> list[int]:
    """Indices of the frames that are evaluated first, evenly spaced; they determine the colour scales of heatmaps."""
    return sorted({round(i) for i in np.linspace(0, count - 1, FIRST)})
