"""Base class of anomaly metrics in mmengine's loops: reading samples, and one result on all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric

from anomaly.errors import InputError
from anomaly.frames import Label, ScoreMap
from anomaly.mmengine.samples import LabelReader, Sample, check_carried, frame_id, score_map, scores_of
from anomaly.scores.registry import SCORES, get_scores

_T = TypeVar("_T")


class AnomalyMetric(BaseMetric):
    """Reads samples, and returns the same result on all processes.

    A subclass adds a frame's score in ``_add``, and computes the metrics of a score in ``_measure``, which every
    process calls.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels as labels leave the pipeline.
        scores: Names of scores; None for the commonly reported ones that the network supports.
        set: Name of the dataset, as a part of the names of the metrics.
        ignore_index: Label value, or values, of ignored pixels.
        known: Label values of known pixels; None for the ids of the dataset's classes.
        images: Pattern; only frames with a matching ``img_path`` count.
        prefix: First part of the names of the metrics; None for ``anomaly``.

    Raises:
        InputError: An argument is out of range, or a score is unknown or not available in mmengine's loops.
    """

    default_prefix = "anomaly"

    def __init__(
        self,
        anomaly_index: int | Sequence[int],
        scores: Sequence[str] | None,
        set: str,
        ignore_index: int | Sequence[int],
        known: Sequence[int] | None,
        images: str,
        prefix: str | None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.dataset = set
        self.images = images
        self.scores = None if scores is None else get_scores([scores] if isinstance(scores, str) else scores)
        check_carried(self.scores or ())
        self._labels = LabelReader(anomaly_index, ignore_index, known)
        self._seen: dict[str, None] = {}

    def process(self, data_batch: Any, data_samples: Sequence[Sample]) -> None:
        """Add the frames of a batch, as mmengine's ``BaseMetric`` does.

        Raises:
            InputError: A sample has no path, no label or no map that a score needs; a label value has no meaning; or a
                score is NaN or infinite.
        """
        for sample in data_samples:
            frame = frame_id(sample)
            if not fnmatchcase(frame, self.images):
                continue
            label = self._labels.read(sample, (self.dataset_meta or {}).get("classes"))
            for score in scores_of(sample) if self.scores is None else self.scores:
                self._add(score.name, frame, score_map(sample, score), label)
                self._seen[score.name] = None

    def evaluate(self, size: int) -> dict[str, float]:
        """Measure the frames of all processes, each frame once, and discard them.

        Args:
            size: Number of frames of the dataset. Not needed: a frame is identified by its ``img_path``.

        Returns:
            Values named ``{prefix}/{set}/{score}/{figure}``, the same on every process.

        Raises:
            InputError: There are no frames, or the frames of the processes do not fit together; raised on every
                process.
        """
        try:
            seen = {name for names in all_gather_object(list(self._seen)) for name in names}
            if not seen:
                raise InputError(
                    f"{type(self).__name__}: expected frames whose img_path matches {self.images!r}, with a score that "
                    "the network supports, found none; correct images=..., or the dataset"
                )
            return {
                "/".join(part for part in (self.prefix, self.dataset, name, metric) if part): value
                for name in (SCORES if self.scores is None else [score.name for score in self.scores])
                if name in seen
                for metric, value in self._measure(name).items()
            }
        finally:
            self._seen.clear()
            self._reset()

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Not called: :meth:`evaluate` combines processes by frames, not by lists of results."""
        raise NotImplementedError("call evaluate")

    def _add(self, score: str, frame: str, score_map: ScoreMap, label: Label) -> None:
        raise NotImplementedError

    def _measure(self, score: str) -> dict[str, float]:
        raise NotImplementedError

    def _reset(self) -> None:
        raise NotImplementedError

    def _check_one_score(self, threshold: float) -> None:
        if self.scores is None or len(self.scores) != 1:
            raise InputError(
                f"threshold={threshold}: expected exactly one score, as in scores=['msp'], found "
                f"{'none' if self.scores is None else [score.name for score in self.scores]}; use one metric for each "
                "score"
            )


def on_main(function: Callable[[], _T]) -> _T:
    """Call a function on process 0, and return its result, or raise its ``InputError``, on all processes."""
    outcome: list[Any] = [None]
    if is_main_process():
        try:
            outcome = [function()]
        except InputError as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], InputError):
        raise outcome[0]
    result: _T = outcome[0]
    return result


def chosen(figures: Sequence[str] | None, default: Iterable[str], allowed: Sequence[str]) -> list[str]:
    """Return the names of the requested metrics, or the default ones.

    Args:
        figures: Requested names; None for the default.
        default: Default names.
        allowed: All names.

    Raises:
        InputError: A name is unknown; the message lists all.
    """
    figures = [figures] if isinstance(figures, str) else figures
    names = list(default if figures is None else dict.fromkeys(figures))
    for name in names:
        if name not in allowed:
            raise InputError(f"figures: expected metrics of {', '.join(allowed)}; found {name!r}")
    return names
