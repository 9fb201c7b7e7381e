"""Pictures of a whole run, drawn in the background."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote

from anomaly.utils.profile import Profile
from anomaly.frames import Frame, Image, Label, ScoreMap
from anomaly.utils.background import Worker
from anomaly.visualize.heatmap import Heatmap
from anomaly.visualize.panel import Panel, cell_size, encode_png, shrink, shrink_label

BACKLOG = 6


class _Cells(NamedTuple):
    set_name: str
    frame_id: str
    image: Image
    label: Label
    scores: dict[str, ScoreMap]


class PanelWriter:
    """Writes ``FOLDER/SET/SCORE/FRAME.png`` for every frame it is given; a context manager.

    Each score has one colour scale for the whole run: the 1st to 99th percentile of the frames added before
    :meth:`fix_scales`, pooled; those frames are held (at picture size) until then. One background thread does
    the work; :meth:`add` waits only when that is several frames behind. Leaving the context drops what is not
    yet drawn, so call :meth:`finish` before.

    Args:
        folder: Made when the first picture is written.
        scores: Names of the scores to draw; without any, no frame may be added.
        profile: Gets the seconds the background thread is busy.
    """

    def __init__(self, folder: Path, scores: Sequence[str], profile: Profile | None = None) -> None:
        self.scales: dict[str, Heatmap] = {}
        self._folder = folder
        self._scores = tuple(scores)
        self._profile = profile or Profile()
        self._held: list[_Cells] = []
        self._worker = Worker(BACKLOG)

    def add(self, set_name: str, frame: Frame, scores: Mapping[str, ScoreMap]) -> None:
        """Take one frame; ``scores`` maps names to maps ``(h, w)`` of any size, with the frame's aspect."""
        self._worker.submit(self._take, set_name, frame, {name: scores[name] for name in self._scores})

    def fix_scales(self) -> None:
        """Fix ``scales`` from the frames added so far (at least one) and draw those frames."""
        self._worker.submit(self._fix)

    def finish(self) -> None:
        """Wait until every picture is written; raises what went wrong in the background."""
        self._worker.finish()

    def __enter__(self) -> PanelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.__exit__(kind, error, trace)

    # Below: only the background thread runs these, one after another, so they share state without locks.

    def _take(self, set_name: str, frame: Frame, scores: dict[str, ScoreMap]) -> None:
        with self._profile.stage("pictures", background=True):
            size = cell_size(*frame.label.shape)
            cells = _Cells(
                set_name,
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
        self.scales = {name: Heatmap.of([cells.scores[name] for cells in self._held]) for name in self._scores}
        for cells in self._held:
            self._draw(cells)
        self._held.clear()

    def _draw(self, cells: _Cells) -> None:
        title = f"{cells.set_name}: {cells.frame_id}"
        for name, heatmap in self.scales.items():
            picture = Panel(name, heatmap).draw(cells.image, cells.scores[name], cells.label, title)
            path = self._folder / cells.set_name / quote(name, safe=" +:,=") / f"{cells.frame_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(encode_png(picture))
            os.replace(part, path)
