"""Runs with the data kept for the report, joined: the same frames of a dataset with all methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from anomaly.errors import InputError
from anomaly.metrics.score_curves import ScoreCurves
from anomaly.report.views import SET, DatasetViews, View
from anomaly.results.comparison import check_comparable
from anomaly.results.records import DatasetResult, EvaluationRecord, ScoreResult, read_results

FOLDER = "report"


@dataclass(frozen=True)
class Run:
    """One run.

    Args:
        letter: Short name of the run on the page; empty if there is only one run.
        result: Its record.
        folder: Folder of its views.
    """

    letter: str
    result: EvaluationRecord
    folder: Path


@dataclass(frozen=True)
class JoinedScore:
    """One score of one run on a dataset.

    Args:
        label: Name on the page.
        score: Name of the score.
        run: Index of the run in :attr:`JoinedDataset.runs`.
        place: Index among the run's scores.
        result: Its metrics.
        curves: Its curves.
    """

    label: str
    score: str
    run: int
    place: int
    result: ScoreResult
    curves: ScoreCurves


@dataclass(frozen=True)
class JoinedDataset:
    """One dataset, measured by one run or by several on the same frames.

    Args:
        name: Name of the dataset.
        entry: The first run's record of the dataset.
        runs: The runs that measured it.
        views: The views that each of these runs kept.
        methods: The scores of all runs, run by run.
        frames: Frames of which every run has a view: the id, and the number of its view in each run.
    """

    name: str
    entry: DatasetResult
    runs: list[Run]
    views: list[DatasetViews]
    methods: list[JoinedScore]
    frames: list[tuple[str, list[int]]]

    def read(self, frame: int) -> list[View]:
        """The views of a frame, one of each run.

        Args:
            frame: Index in ``frames``.

        Raises:
            InputError: A file is missing or damaged, or the views of the frame do not fit together.
        """
        name, places = self.frames[frame]
        parts = zip(self.runs, self.views, places, strict=True)
        found = [views.view(run.folder / self.name, place) for run, views, place in parts]
        if any(one.size != found[0].size or (one.label != found[0].label).any() for one in found):
            raise InputError(
                f"{self.name}: expected the same label of frame {name!r} in all runs, found several; evaluate all runs "
                "again"
            )
        return found


def join(paths: Sequence[Path]) -> tuple[list[Run], list[JoinedDataset]]:
    """Read results with the folders ``report`` beside them.

    Args:
        paths: The ``results.json`` files.

    Raises:
        InputError: A file is missing or damaged, a result has no such folder or that of another run, or the results
            differ in frames, labels or rules.
    """
    if not paths:
        raise InputError("expected at least one results.json, found none; name one")
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(f"expected results of different runs, found {', '.join(map(str, paths))}; name each once")
    runs = []
    for i, path in enumerate(paths):
        letter = "" if len(paths) == 1 else ascii_uppercase[i] if i < 26 else str(i + 1)
        runs.append(Run(letter, read_results(path), path.parent / FOLDER))
    check_comparable([run.result for run in runs])
    names = dict.fromkeys(entry.dataset for run in runs for entry in run.result.datasets)
    return runs, [_join_dataset(name, runs) for name in names]


def _join_dataset(name: str, runs: list[Run]) -> JoinedDataset:
    having = [(run, entry) for run in runs for entry in run.result.datasets if entry.dataset == name]
    methods, views = [], []
    for place, (run, entry) in enumerate(having):
        views.append(_read_dataset(run, entry))
        for i, (score, curves) in enumerate(views[-1].curves.items()):
            methods.append(JoinedScore(f"{run.letter} {score}".strip(), score, place, i, entry.scores[score], curves))
    places = [{frame: i for i, frame in enumerate(one.frames)} for one in views]
    frames = [(frame, [at[frame] for at in places]) for frame in places[0] if all(frame in at for at in places)]
    if not frames:
        raise InputError(
            f"{name}: expected frames of which all runs keep views, found none; evaluate all runs with the same "
            "--report-frames"
        )
    return JoinedDataset(name, having[0][1], [run for run, _ in having], views, methods, frames)


def _read_dataset(run: Run, entry: DatasetResult) -> DatasetViews:
    folder = run.folder / entry.dataset
    if not (folder / SET).is_file():
        raise InputError(
            f"{run.folder.parent}: expected the views and curves of {entry.dataset} in {folder}, found none; evaluate "
            "again with anomaly evaluate --report"
        )
    views = DatasetViews.read(folder)
    mine, theirs = (
        (views.dataset, views.fingerprint, list(views.curves)),
        (entry.dataset, entry.fingerprint, list(entry.scores)),
    )
    if mine != theirs:
        raise InputError(
            f"{folder}: expected the views of the result beside it, found those of another run (dataset, fingerprint "
            f"and scores {mine}, not {theirs}); evaluate again with anomaly evaluate --report"
        )
    return views
