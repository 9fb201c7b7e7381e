"""Pixel metrics of a score on a dataset: pooled over all pixels, and as means over images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Label, as_array, as_frame_id, as_score, check_label
from anomaly.metrics.binned import BinnedScores
from anomaly.metrics.definitions import PER_IMAGE, Levels
from anomaly.metrics.distributed import State, gather
from anomaly.metrics.exact import ExactScores
from anomaly.metrics.functional.curve import Counts, OperatingPoints, Scores
from anomaly.metrics.functional.ranking import UndefinedMetricWarning, missing_pixels
from anomaly.metrics.functional.thinned import Curve
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.measured import Bounds, FrameCounts
from anomaly.metrics.merging import check_same_settings
from anomaly.metrics.on_device import split_sorted
from anomaly.metrics.repeats import FrameKey, FrameKeys
from anomaly.metrics.runs import FrameScores
from anomaly.utils import devices
from anomaly.utils.given import choice, real, text
from anomaly.utils.state_file import read_state, write_state

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Mode = Literal["exact", "binned"]
MODES = ("exact", "binned")
MEMORY_BUDGET = 2 * 2**30


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of a score. Anomaly is the positive class; pixels with ``score >= threshold`` are flagged.

    ``result["ap"]`` is short for ``result.values["ap"]``.

    Args:
        values: Values by name; fractions, NaN where undefined. ``auroc``, ``ap``, ``fpr95`` (lower is better),
            ``best_f1``, ``best_f1_threshold`` (a score) and ``recall_at_fpr05`` cover all pixels together; with a
            threshold, so do ``f1`` and ``iou``. The same names with the suffix ``_per_image`` are means over the
            frames with known and anomaly pixels.
        bounds: In binned mode, two values by name between which the exact value is certain to lie; empty in exact
            mode.
        frames: Number of distinct frames.
        known_pixels: Number of pixels labelled ``KNOWN``.
        anomaly_pixels: Number of pixels labelled ``ANOMALY``.
        ignored_pixels: Number of pixels labelled ``IGNORE``.
        undefined_frames: Frames without known or without anomaly pixels. The means over images leave them out, the
            pooled values include them.
        per_frame: Values of each frame, by its id and by name.
        curve: The curve for plots.
        mode: ``exact`` or ``binned``.
        levels: Levels and threshold of the metrics.
    """

    values: dict[str, float]
    bounds: dict[str, Bounds]
    frames: int
    known_pixels: int
    anomaly_pixels: int
    ignored_pixels: int
    undefined_frames: tuple[str, ...]
    per_frame: dict[str, dict[str, float]]
    curve: Curve
    mode: Mode
    levels: Levels

    def __getitem__(self, name: str) -> float:
        """The value of that name."""
        return self.values[name]


class PixelMetrics:
    """AUROC, average precision, FPR at TPR and more, over all pixels of the frames added.

    ``merge`` is associative and commutative, so that one process and many give the same result. A frame counts once,
    however often its id is added (a padded distributed sampler repeats frames); the scores added first are kept. A
    different frame of the same id is an error. Frames are compared by their labels and by the mean and standard
    deviation of their scores, which may differ by 1 % of the standard deviation, as they do when a network computes a
    frame in another batch.

    ``mode="exact"`` keeps the scores of all frames (4 bytes per pixel for float32, 8 for float64) and no labels. They
    stay in memory up to ``memory_budget`` and move to a temporary file after that. ``mode="binned"`` counts scores in
    about a million bins, in constant memory, and gives bounds of every value. It keeps the scores of the last few
    frames, to detect repeated frames when merging; merging parts that share older frames is an error.

    Args:
        name: Name of the score, for error messages. Only metrics of the same name can be merged.
        dataset: Name of the dataset, for error messages. Only metrics of the same dataset can be merged.
        mode: ``exact`` or ``binned``.
        tpr: True-positive rate at which the false-positive rate is taken, ``0 < tpr <= 1``.
        fpr: Largest false-positive rate for the recall at a false-positive rate, ``0 <= fpr < 1``.
        threshold: Pixels with ``score >= threshold`` are flagged for F1 and IoU; ``None`` leaves these out.
        memory_budget: Bytes that exact mode may use before it uses disk space; or a
            :class:`anomaly.metrics.ledger.Ledger` that several metrics share.
        spill_dir: Folder of the temporary file; by default that of the system.

    Raises:
        InputError: An argument is out of range.

    Examples:
        >>> metrics = PixelMetrics("msp")
        >>> metrics.update("a", np.float32([[0.1, 0.2], [0.9, 0.5]]), np.uint8([[0, 0], [1, 255]]))
        >>> metrics.compute()["auroc"]
        1.0
    """

    def __init__(
        self,
        name: str = "score",
        *,
        dataset: str = "",
        mode: Mode = "exact",
        tpr: float = 0.95,
        fpr: float = 0.05,
        threshold: float | None = None,
        memory_budget: int | Ledger = MEMORY_BUDGET,
        spill_dir: Path | None = None,
    ) -> None:
        self.name = text("name", name)
        self.dataset = text("dataset", dataset)
        self.mode: Mode = choice("mode", mode, MODES)  # type: ignore[assignment]
        self.levels = Levels(tpr, fpr, threshold)
        self.memory: dict[str, Any] = {"memory_budget": Ledger.of(memory_budget), "spill_dir": spill_dir}
        self.reset()

    def update(self, frame_id: str, score: npt.NDArray[Any], label: Label) -> None:
        """Add a frame; one that was added before is not changed.

        Args:
            frame_id: Name of the frame, a str, unique in its dataset.
            score: Score of each pixel, finite, higher = more anomalous. An array of any real type (bool and integers
                count exactly), or a torch tensor on any device. A tensor on a GPU is split and sorted there.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, an array or tensor of any real type.

        Shape:
            score and label ``(H, W)``; frames may differ in size.

        Raises:
            InputError: ``frame_id`` is not a str; the shapes differ; a score is not finite or not real; a label has
                another value; an array is masked; another frame of this id was added; or neither memory nor disk has
                room. The frame is not added then.
        """
        frame_id = as_frame_id(frame_id)
        ascending = devices.on_device(score)
        split: Callable[[str, str, Any, Any], tuple[Scores, Scores, FrameKey]] = split_sorted if ascending else _split
        known, anomaly, key = split(frame_id, self.name, score, label)
        if self._keys.repeats(frame_id, key):
            return
        self._scores.add(frame_id, known, anomaly, key.counts.ignored, ascending=ascending)
        if ascending and isinstance(self._scores, ExactScores):
            self._scores.device = score.device
        self._keys.add(frame_id, key)

    def merge(self, other: PixelMetrics) -> None:
        """Add the frames of ``other``, which does not change.

        Raises:
            InputError: ``other`` has another score, dataset, mode or other levels, or a different frame of the same id;
                or, in binned mode, both parts have counted the same frame in their bins.
        """
        self._check_mergeable(other)
        self._keys.check(other._keys)
        scores: Any = self._scores
        try:
            scores.take(other._scores)  # of the same mode
        finally:
            self._keys.take(other._keys, among=scores.counts)

    def gather(self, group: ProcessGroup | None = None) -> None:
        """Add the frames of all ``torch.distributed`` processes to the metrics of process 0.

        Call it on every process. It does nothing without a process group. Only the metrics of process 0 change; they
        keep within their memory budget while the scores arrive.

        Args:
            group: A gloo group to use; by default all processes, in a group that is made for this call.

        Raises:
            InputError: A part cannot be merged; raised on every process.
        """
        gather(self, partial(self.from_state, **self.memory), group)

    def compute(self) -> PixelResult:
        """Compute the metrics of all frames. You can call ``update`` and ``merge`` again afterwards.

        Warns:
            UndefinedMetricWarning: There is no known or no anomaly pixel, and all values are NaN.
        """
        measured = self._scores.measure(self.levels)
        counts = self._scores.counts
        defined = sorted(frame_id for frame_id, count in counts.items() if count.defined)
        values, bounds = dict(measured.values), dict(measured.bounds)
        for name in next(iter(measured.per_frame.values()), {}):
            values[name + PER_IMAGE] = _mean([measured.per_frame[frame_id][name] for frame_id in defined])
        for name in next(iter(measured.per_frame_bounds.values()), {}):
            ends = zip(*(measured.per_frame_bounds[frame_id][name] for frame_id in defined), strict=True)
            low, high = (_mean(list(end)) for end in ends) if defined else (math.nan, math.nan)
            bounds[name + PER_IMAGE] = (low, high)
        if missing := missing_pixels(self.num_known, self.num_anomaly):
            message = f"score {self.name!r}: AUROC, AP and all other values are NaN: there are no {missing} pixels"
            if "anomaly" in missing and any(count.ignored for count in counts.values()):
                message += f" ({IGNORE} means ignored; in a mask of 0 and {IGNORE}, replace {IGNORE} by {ANOMALY})"
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        return PixelResult(
            values=values,
            bounds=bounds,
            frames=len(counts),
            known_pixels=self.num_known,
            anomaly_pixels=self.num_anomaly,
            ignored_pixels=sum(count.ignored for count in counts.values()),
            undefined_frames=tuple(sorted(counts.keys() - set(defined))),
            per_frame=measured.per_frame,
            curve=measured.curve,
            mode=self.mode,
            levels=self.levels,
        )

    def reset(self) -> None:
        """Remove all frames."""
        self._scores: ExactScores | BinnedScores
        self._scores = ExactScores(**self.memory) if self.mode == "exact" else BinnedScores(self.levels)
        self._keys = FrameKeys()

    @property
    def num_known(self) -> int:
        """Number of known pixels."""
        return sum(count.known for count in self._scores.counts.values())

    @property
    def num_anomaly(self) -> int:
        """Number of anomaly pixels."""
        return sum(count.anomaly for count in self._scores.counts.values())

    def frames(self) -> Iterator[tuple[str, FrameScores]]:
        """Yield the id and the sorted scores of each frame, in the order of the ids; in exact mode only.

        Raises:
            InputError: The metrics are in binned mode.
        """
        return self._exact().frames()

    def curve(self) -> Iterator[OperatingPoints]:
        """Yield the operating points of all pixels, in parts, from the highest threshold down; in exact mode only.

        Raises:
            InputError: The metrics are in binned mode.
        """
        return self._exact().curve()

    def counts_at(self, thresholds: Scores) -> tuple[Counts, Counts]:
        """Count the anomaly and the known pixels with ``score >= threshold``; in exact mode only.

        Args:
            thresholds: Scores. Shape ``(T,)``.

        Returns:
            Counts of anomaly pixels and of known pixels, each ``(T,)``, int64.

        Raises:
            InputError: A threshold is NaN or not a number, or the metrics are in binned mode.
        """
        values = np.array([real("thresholds", each, "a list of scores") for each in thresholds], np.float64)
        if np.isnan(values).any():
            raise InputError("thresholds: expected scores, found nan; remove it")
        return self._exact().counts_at(values)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that represents every score, float32 or float64; in exact mode only."""
        return self._exact().dtype

    def save(self, path: Path) -> None:
        """Write the state to a ``.npz`` file of plain arrays, whole or not at all; :meth:`load` reads it.

        Args:
            path: The file to write.

        Raises:
            InputError: The file cannot be written.
        """
        header, arrays = self.state()
        write_state(path, header, arrays)

    @classmethod
    def load(
        cls, path: Path, *, memory_budget: int | Ledger = MEMORY_BUDGET, spill_dir: Path | None = None
    ) -> PixelMetrics:
        """Read a state that :meth:`save` wrote, to add frames, merge or compute.

        Args:
            path: The file. It is checked, and no code from it is run.
            memory_budget: Bytes that exact mode may use before it uses disk space; or a shared
                :class:`anomaly.metrics.ledger.Ledger`.
            spill_dir: Folder of the temporary file; by default that of the system.

        Raises:
            InputError: The file is missing, incomplete, damaged or not such a state.
        """
        with read_state(path) as (header, arrays):
            return cls.from_state(header, arrays, memory_budget=memory_budget, spill_dir=spill_dir)

    def state(self) -> State:
        """Return the state as values that JSON can hold, and as arrays that are made one at a time."""
        header, arrays = self._scores.state()
        settings = {"name": self.name, "dataset": self.dataset, "mode": self.mode, **vars(self.levels)}
        return {"settings": settings, **header, "keys": self._keys.record()}, arrays

    @classmethod
    def from_state(
        cls,
        header: dict[str, Any],
        arrays: Iterator[npt.NDArray[Any]],
        *,
        memory_budget: int | Ledger = MEMORY_BUDGET,
        spill_dir: Path | None = None,
    ) -> PixelMetrics:
        """Make metrics from a state of :meth:`state`.

        In states of earlier versions the dataset is named ``set``, and keys of frames are missing; such frames are
        compared by their pixel counts only.

        Args:
            header: Values of the state.
            arrays: Arrays of the state.
            memory_budget: Bytes that exact mode may use before it uses disk space; or a shared
                :class:`anomaly.metrics.ledger.Ledger`.
            spill_dir: Folder of the temporary file; by default that of the system.

        Raises:
            InputError: A setting or an array of the state is not valid.
        """
        settings = {"dataset" if name == "set" else name: value for name, value in header["settings"].items()}
        metrics = cls(**settings, memory_budget=memory_budget, spill_dir=spill_dir)
        metrics._scores.restore(header, arrays)
        metrics._keys = FrameKeys.of(metrics._scores.counts, header.get("keys", {}))
        return metrics

    def _exact(self) -> ExactScores:
        if isinstance(self._scores, ExactScores):
            return self._scores
        raise InputError(
            f"score {self.name!r}: this needs the score of every pixel, and binned mode keeps only counts; use "
            "mode='exact'"
        )

    def _check_mergeable(self, other: PixelMetrics) -> None:
        mine, theirs = (
            {"score": one.name, "dataset": one.dataset, "mode": one.mode, **vars(one.levels)} for one in (self, other)
        )
        check_same_settings("pixel metrics", mine, theirs)


def _split(frame_id: str, name: str, score: Any, label: Any) -> tuple[Scores, Scores, FrameKey]:
    """Split the scores of a frame by label: those of known and of anomaly pixels, in any order, and the frame's key."""
    label = as_array(frame_id, "label", label)
    scores: Scores = as_score(frame_id, name, score, label.shape).ravel()
    known, anomaly = (scores[(label == value).ravel()] for value in (KNOWN, ANOMALY))
    ignored = int(np.count_nonzero(label == IGNORE))
    if known.size + anomaly.size + ignored != label.size:
        check_label(frame_id, label)
    key = FrameKey.of(FrameCounts(known.size, anomaly.size, ignored), scores, label)
    known += 0.0  # -0.0, which equals 0.0, becomes 0.0
    anomaly += 0.0
    return known, anomaly, key


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
