"""Pixel metrics of one score on one set: all pixels pooled, and the means over images beside them."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Label, as_array, as_frame_id, as_score, check_label
from anomaly.metrics.binned import BinnedScores
from anomaly.metrics.definitions import PER_IMAGE, Levels
from anomaly.metrics.exact import ExactScores
from anomaly.metrics.functional.curve import Counts, OperatingPoints, Scores
from anomaly.metrics.functional.ranking import UndefinedMetricWarning, missing_pixels
from anomaly.metrics.functional.thinned import Curve
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.measured import FrameCounts, Interval
from anomaly.metrics.merging import check_same_settings
from anomaly.metrics.repeats import FrameKey, FrameKeys
from anomaly.metrics.runs import FrameScores
from anomaly.utils.given import choice, real, text
from anomaly.utils.state_file import read_state, write_state

Mode = Literal["exact", "binned"]
MODES = ("exact", "binned")
MEMORY_BUDGET = 2 * 2**30


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of one score. Anomaly is the positive class; a pixel is called so when ``score >= threshold``.

    ``result["ap"]`` is short for ``result.values["ap"]``.

    Args:
        values: By name, fractions, NaN where undefined: ``auroc``, ``ap``, ``fpr95`` (lower is better), ``best_f1``,
            ``best_f1_threshold`` (a score) and ``recall_at_fpr05``, each over all pixels together; with a threshold
            also ``f1`` and ``iou`` at it. The same names with ``_per_image`` are means over those frames that have
            both known and anomaly pixels.
        bounds: In binned mode, by name, two ends between which the exact figure is certain to lie; empty in exact
            mode.
        frames: Number of distinct frames.
        known_pixels: Number of pixels labelled ``KNOWN``.
        anomaly_pixels: Number of pixels labelled ``ANOMALY``.
        ignored_pixels: Number of pixels left out.
        undefined_frames: Frames without a known or without an anomaly pixel, which the means leave out. Their pixels
            count in the pooled figures.
        per_frame: Figures of each frame, by its id and their names.
        curve: For plots.
        mode: ``exact`` or ``binned``.
        levels: Where the figures were taken.
    """

    values: dict[str, float]
    bounds: dict[str, Interval]
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
        """The figure of that name."""
        return self.values[name]


class PixelMetrics:
    """AUROC, average precision, FPR at TPR and more over all pixels of the frames seen.

    ``merge`` is associative and commutative: one process and many give the same result. A frame counts once however
    often its id is seen, as it happens with a padded distributed sampler; the scores seen first are kept. That it is
    the same frame is checked, by its label and by mean and spread of its scores: these may differ by 1 % of the spread,
    as they do where a network computes the frame in another batch.

    ``mode="exact"`` keeps each frame's scores (4 bytes a pixel for float32, 8 for float64) and no labels, in memory
    up to its budget, then in a temporary file. ``mode="binned"`` counts them in about a million bins, in constant
    memory, and bounds every figure; it keeps the last few frames apart, so that merging can tell whether they were
    seen twice, and refuses to merge parts that share older frames.

    Args:
        name: Name of the score, for error messages; only parts of one name merge.
        dataset: Name of the evaluation set; likewise.
        mode: ``exact`` or ``binned``.
        tpr: True-positive rate at which the false-positive rate is taken, ``0 < tpr <= 1``.
        fpr: False-positive rate that the recall may not exceed, ``0 <= fpr < 1``.
        threshold: Score from which on a pixel is called anomalous, for F1 and IoU at it.
        memory_budget: Bytes that exact mode may use before it takes disk space; or a
            :class:`anomaly.metrics.ledger.Ledger`, which metrics share.
        spill_dir: Folder of that temporary file; the system's by default.

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
        """Add one frame; a frame that was seen before stays as it was.

        Args:
            frame_id: Name of the frame, a str, unique in its set.
            score: Higher = more anomalous, every value finite; any real type (bool and integers count exactly). An
                array, or a tensor of torch, on any device.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, as an array of any real type.

        Shape:
            score and label ``(H, W)``; frames may differ in size.

        Raises:
            InputError: The id is no str, the shapes differ, a score is NaN or infinite or of a type that is not real, a
                label has another value, an array is masked, another frame of that id was seen, or neither memory nor
                disk has room. The frame then stays out.
        """
        frame_id = as_frame_id(frame_id)
        label = as_array(frame_id, "label", label)
        scores: Scores = as_score(frame_id, self.name, score, label.shape).ravel()
        known, anomaly = (np.compress((label == value).ravel(), scores) for value in (KNOWN, ANOMALY))
        ignored = int(np.count_nonzero(label == IGNORE))
        if known.size + anomaly.size + ignored != label.size:
            check_label(frame_id, label)
        key = FrameKey.of(FrameCounts(known.size, anomaly.size, ignored), scores, label)
        if self._keys.repeats(frame_id, key):
            return
        known += 0.0  # -0.0, which equals 0.0, becomes 0.0
        anomaly += 0.0
        self._scores.add(frame_id, known, anomaly, ignored)
        self._keys.add(frame_id, key)

    def merge(self, other: PixelMetrics) -> None:
        """Take over the frames of ``other``, which stays as it is.

        Raises:
            InputError: ``other`` measures another score, on another set, in another mode or at other levels; a
                frame of both is another one there; or, in binned mode, both have counted a frame.
        """
        self._check_mergeable(other)
        self._keys.check(other._keys)
        scores: Any = self._scores
        try:
            scores.take(other._scores)  # of the same mode
        finally:
            self._keys.take(other._keys, among=scores.counts)

    def gather(self) -> None:
        """Make process 0 of ``torch.distributed`` take over the frames of all others; see :mod:`.distributed`."""
        if "torch.distributed" in sys.modules:  # it is loaded by whoever makes a process group
            from anomaly.metrics.distributed import gather

            gather(self)

    def compute(self) -> PixelResult:
        """Measure all frames; ``update`` and ``merge`` may go on afterwards.

        Warns:
            UndefinedMetricWarning: There is no known or no anomaly pixel, and all figures are NaN.
        """
        measured = self._scores.measure(self.levels)
        counts = self._scores.counts
        defined = sorted(frame_id for frame_id, count in counts.items() if count.defined)
        figures, bounds = dict(measured.values), dict(measured.bounds)
        for name in next(iter(measured.per_frame.values()), {}):
            figures[name + PER_IMAGE] = _mean([measured.per_frame[frame_id][name] for frame_id in defined])
        for name in next(iter(measured.per_frame_bounds.values()), {}):
            ends = zip(*(measured.per_frame_bounds[frame_id][name] for frame_id in defined), strict=True)
            low, high = (_mean(list(end)) for end in ends) if defined else (math.nan, math.nan)
            bounds[name + PER_IMAGE] = (low, high)
        if missing := missing_pixels(self.num_known, self.num_anomaly):
            message = f"score {self.name!r}: AUROC, AP and all other figures are NaN: there are no {missing} pixels"
            if "anomaly" in missing and any(count.ignored for count in counts.values()):
                message += f" ({IGNORE} means ignored: of a mask of 0 and {IGNORE} make 0 and {ANOMALY} first)"
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        return PixelResult(
            values=figures,
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
        """Forget all frames."""
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
        """Each frame's sorted scores, in the order of the frames' ids; in exact mode only."""
        return self._exact().frames()

    def curve(self) -> Iterator[OperatingPoints]:
        """The operating points of all pixels, in parts, from the highest threshold down; in exact mode only."""
        return self._exact().curve()

    def counts_at(self, thresholds: Scores) -> tuple[Counts, Counts]:
        """Count the anomaly and the known pixels with ``score >= threshold``; in exact mode only.

        Shape:
            thresholds ``(T,)`` to two arrays ``(T,)`` of int64.

        Raises:
            InputError: A threshold is no number, or NaN; or the metrics are binned.
        """
        values = np.array([real("thresholds", each, "a list of scores") for each in thresholds], np.float64)
        if np.isnan(values).any():
            raise InputError("thresholds: expected scores, found nan; leave it out")
        return self._exact().counts_at(values)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds every score, float32 or float64; in exact mode only."""
        return self._exact().dtype

    def save(self, path: Path) -> None:
        """Write everything to one ``.npz`` file of plain arrays, whole or not at all; see :meth:`load`.

        Raises:
            InputError: The file cannot be written.
        """
        header, arrays = self.state()
        write_state(path, header, arrays)

    @classmethod
    def load(
        cls, path: Path, *, memory_budget: int | Ledger = MEMORY_BUDGET, spill_dir: Path | None = None
    ) -> PixelMetrics:
        """Read what :meth:`save` wrote, to go on with, to merge or to compute.

        Args:
            path: The file; nothing in it is trusted.
            memory_budget: As of the class.
            spill_dir: As of the class.

        Raises:
            InputError: The file is missing, cut short, damaged or no such state.
        """
        with read_state(path) as (header, arrays):
            return cls.from_state(header, arrays, memory_budget=memory_budget, spill_dir=spill_dir)

    def state(self) -> tuple[dict[str, Any], Iterator[npt.NDArray[Any]]]:
        """Give everything as what JSON can hold and as arrays, made one at a time."""
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
        """Make metrics from what :meth:`state` gave. Raises ``InputError`` where it is not that.

        States of earlier versions call the dataset a set, and have no keys of their frames; of these, only the numbers
        of pixels are compared.
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
            f"score {self.name!r}: this needs every pixel's score, and binned mode keeps only counts; use mode='exact'"
        )

    def _check_mergeable(self, other: PixelMetrics) -> None:
        mine, theirs = (
            {"score": one.name, "dataset": one.dataset, "mode": one.mode, **vars(one.levels)} for one in (self, other)
        )
        check_same_settings("pixel metrics", mine, theirs)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
