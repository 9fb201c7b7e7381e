"""Heatmaps of a whole evaluation, drawn in the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote

from anomaly.datasets.dataset import Dataset
from anomaly.evaluation.callbacks import Callback, FrameResult
from anomaly.frames import Frame, Image, Label, ScoreMap
from anomaly.utils.background import Worker
from anomaly.utils.files import write_whole
from anomaly.utils.processes import ALONE, Processes
from anomaly.utils.profile import Profile
from anomaly.visualize.heatmap import Heatmap
from anomaly.visualize.panel import Panel, cell_size, encode_png, shrink, shrink_label

BACKLOG = 6


class _Cells(NamedTuple):
    dataset: str
    frame_id: str
    image: Image
    label: Label
    scores: dict[str, ScoreMap]


class HeatmapCallback(Callback):
    """Writes ``FOLDER/DATASET/SCORE/FRAME.png`` for every frame; a context manager.

    Each score has one colour scale for all frames: the 1st to the 99th percentile over the frames that an evaluation
    visits first (:func:`anomaly.evaluation.callbacks.first_frames` of every dataset). These frames are kept at picture
    size until the scale is known. A background thread draws; :meth:`on_frame` waits only when it is several frames
    behind. Leaving the context drops pictures that are not drawn yet. Each of several processes draws its own frames,
    with the colour scales of all first frames.

    Args:
        folder: Folder for the pictures; made when the first picture is written.
        scores: Names of the scores to draw; all by default.
        profile: Gets the seconds in which the background thread is busy.
        processes: The processes that share the evaluation.

    Attributes:
        scales: Colour scale of each score; empty until the first frames are complete.
    """

    def __init__(
        self,
        folder: Path,
        scores: Sequence[str] | None = None,
        profile: Profile | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.scales: dict[str, Heatmap] = {}
        self._folder = folder
        self._scores = None if scores is None else tuple(scores)
        self._profile = profile or Profile()
        self._processes = processes.another()
        self._held: list[_Cells] = []
        self._worker = Worker(BACKLOG)

    @property
    def colour_scales(self) -> dict[str, list[float]]:
        """Lower and upper end of each score's colour scale, for a record."""
        return {name: [scale.low, scale.high] for name, scale in self.scales.items()}

    def on_start(self, datasets: Sequence[Dataset], scores: Sequence[str]) -> None:
        """Note the names of the scores."""
        self._scores = tuple(scores) if self._scores is None else self._scores

    def on_frame(self, result: FrameResult) -> None:
        """Draw a frame, or keep it until the colour scales are known."""
        self.add(result.dataset, result.frame, result.scores)

    def on_first_frames(self) -> None:
        """Set the colour scales."""
        self.fix_scales()

    def on_end(self) -> None:
        """Wait until every picture is written, and raise any error of the background thread."""
        self._worker.finish()

    def add(self, dataset: str, frame: Frame, scores: Mapping[str, ScoreMap]) -> None:
        """Add a frame.

        Args:
            dataset: Name of the dataset.
            frame: The frame.
            scores: Score maps ``(h, w)`` by name, of any size with the aspect of the frame.
        """
        names = self._scores if self._scores is not None else tuple(scores)
        self._worker.submit(self._take, dataset, frame, {name: scores[name] for name in names})

    def fix_scales(self) -> None:
        """Set ``scales`` from the frames that all processes added so far (at least one), and draw these frames."""
        self._worker.submit(self._fix)

    def __enter__(self) -> HeatmapCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.__exit__(kind, error, trace)

    # Only the background thread runs the following methods, one at a time, so they need no locks.

    def _take(self, dataset: str, frame: Frame, scores: dict[str, ScoreMap]) -> None:
        with self._profile.stage("pictures", background=True):
            size = cell_size(*frame.label.shape)
            cells = _Cells(
                dataset,
                frame.id,
                shrink(frame.image, size),
                shrink_label(frame.label, size),
                {name: shrink(score, size) for name, score in scores.items()},
            )
            if self.scales:
                self._draw(cells)
            else:
                self._held.append(cells)

    def _fix(self) -> None:
        maps = [one for part in self._processes.gather([cells.scores for cells in self._held]) for one in part]
        self.scales = {name: Heatmap.of([scores[name] for scores in maps]) for name in maps[0]}
        for cells in self._held:
            self._draw(cells)
        self._held.clear()

    def _draw(self, cells: _Cells) -> None:
        title = f"{cells.dataset}: {cells.frame_id}"
        for name, heatmap in self.scales.items():
            picture = Panel(name, heatmap).draw(cells.image, cells.scores[name], cells.label, title)
            path = self._folder / cells.dataset / quote(name, safe=" +:,=") / f"{cells.frame_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, encode_png(picture))
