"""What is measured of every score on every set, and the metrics of one score on one set that do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.frames import Frame, ScoreMap
from anomaly.metrics.bootstrap import FrameTable, bootstrap
from anomaly.metrics.calibration import Rule, Threshold, apply_threshold, check_level
from anomaly.metrics.component import BEST_F1, ComponentMetrics, component_threshold
from anomaly.metrics.definitions import Levels
from anomaly.metrics.functional.components import Track
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.open_iou import OpenIoUMetrics
from anomaly.metrics.pixel import MEMORY_BUDGET, MODES, Mode, PixelMetrics
from anomaly.metrics.score_curves import ScoreCurves
from anomaly.results.records import ScoreResult, state_name
from anomaly.results.remarks import SeenValues, unlabelled_classes
from anomaly.utils.given import choice, switch, whole

AT_THRESHOLD = ("tpr", "fpr", "precision", "f1", "iou")


@dataclass(frozen=True)
class Calibration:
    """Where and how to choose a threshold for every score; see :func:`anomaly.metrics.calibration.choose_threshold`.

    Args:
        split: The set.
        rule: ``tpr``, ``fpr`` or ``best_f1``.
        level: The rule's; None for its default.
    """

    split: Dataset
    rule: Rule = "tpr"
    level: float | None = None

    def __post_init__(self) -> None:
        level = check_level(self.rule, self.level)
        if self.level is not None:
            object.__setattr__(self, "level", level)


@dataclass(frozen=True)
class MetricConfig:
    """What is measured beside the pixel metrics, and with how much memory.

    Args:
        mode: Of the pixel metrics, ``exact`` or ``binned``. What needs every pixel's score (thresholds, replicates)
            needs ``exact``.
        memory_budget: Bytes for the pixel metrics of all scores and sets together, which share them while they last; or
            the ledger of what else shares them.
        spill_dir: Folder of the temporary files; the system's by default.
        track: Which components count; None leaves component metrics out.
        components_at: Their threshold: ``best_f1`` of the set's own pixels, as SegmentMeIfYouCan takes it;
            ``calibrated``, that of ``thresholds``; or a score.
        replicates: Draws of the bootstrap; 0 leaves confidence intervals out.
        thresholds: By score, chosen on another set: see :func:`anomaly.evaluation.evaluator.calibrate`.
        states: Folder for the pixel metrics of each set and score, ``SET.SCORE.npz``; None keeps none.
        curves: Whether what a report shows is measured too; needs ``exact``.
        tpr: True-positive rate at which the false-positive rate is taken, ``0 < tpr <= 1``.
        fpr: False-positive rate at which the recall is taken, ``0 <= fpr < 1``.

    Numbers may be of any type, and are kept as Python's own.

    Raises:
        InputError: A number is out of range, or not of its kind; or ``components_at`` is given without a track, which
            it would do nothing without.
    """

    mode: Mode = "exact"
    memory_budget: int | Ledger = MEMORY_BUDGET
    spill_dir: Path | None = None
    track: Track | None = None
    components_at: float | Literal["best_f1", "calibrated"] = BEST_F1
    replicates: int = 0
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    states: Path | None = None
    curves: bool = False
    tpr: float = 0.95
    fpr: float = 0.05

    _ledger: Ledger = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        levels = Levels(self.tpr, self.fpr)
        object.__setattr__(self, "tpr", levels.tpr)
        object.__setattr__(self, "fpr", levels.fpr)
        choice("mode", self.mode, MODES)
        if self.mode == "binned" and (self.replicates or self.thresholds or self.curves):
            raise InputError(
                "mode='binned': expected no replicates, thresholds or curves, which need every pixel's score, found "
                "some; use mode='exact'"
            )
        if not (isinstance(self.components_at, str) and self.components_at == "calibrated"):
            object.__setattr__(self, "components_at", component_threshold(self.components_at))
        if self.track is None and self.components_at != BEST_F1:
            raise InputError(f"components_at={self.components_at}: expected a track too, found none; give both")
        object.__setattr__(
            self, "replicates", whole("replicates", self.replicates, 0, "a number of draws, or 0 for none")
        )
        object.__setattr__(self, "curves", switch("curves", self.curves))
        ledger = Ledger.of(self.memory_budget)
        object.__setattr__(self, "_ledger", ledger)
        if ledger is not self.memory_budget:
            object.__setattr__(self, "memory_budget", ledger.limit)

    def pixel_metrics(self, score: str, split: str) -> PixelMetrics:
        """Empty pixel metrics of one score on one set."""
        return PixelMetrics(
            score,
            set=split,
            mode=self.mode,
            tpr=self.tpr,
            fpr=self.fpr,
            memory_budget=self._ledger,
            spill_dir=self.spill_dir,
        )


class ScoreMetrics:
    """All that is measured of one score on one set.

    A threshold chosen on the set of that name is not used on it, and nothing that needs one is measured.

    Args:
        score: Its name.
        split: The set.
        measures: What to measure.
        classes: Names of the network's classes; open-world IoU is measured where they are the set's.

    Attributes:
        curves: What a report shows, if that is asked for and when there is a result.
    """

    curves: ScoreCurves | None = None

    def __init__(self, score: str, split: Dataset, measures: MetricConfig, classes: tuple[str, ...]) -> None:
        self._measures = measures
        self._pixels = measures.pixel_metrics(score, split.name)
        threshold = measures.thresholds.get(score)
        self._threshold = None if threshold is None or threshold.set == split.name else threshold
        self._components: ComponentMetrics | None = None
        at: float | Literal["best_f1"] | None
        at = measures.components_at if measures.components_at != "calibrated" else None
        if at is None and self._threshold is not None:
            at = self._threshold.value
        if measures.track is not None and at is not None:
            self._components = ComponentMetrics(
                measures.track, at, name=score, set=split.name, spill_dir=measures.spill_dir
            )
        self._seen = SeenValues()
        self._open_iou: OpenIoUMetrics | None = None
        if self._threshold is not None and split.classes and split.classes == classes:
            self._open_iou = OpenIoUMetrics(classes, self._threshold, name=score, set=split.name)

    @property
    def needs_classes(self) -> bool:
        """Whether ``update`` wants the network's class of every pixel."""
        return self._open_iou is not None

    def update(self, frame: Frame, score: ScoreMap, prediction: npt.NDArray[np.integer] | None) -> None:
        """Add a frame. Shape: score and prediction ``(H, W)``, as the frame's label.

        Raises:
            InputError: Whatever the metrics find wrong with the input.
        """
        self._pixels.update(frame.id, score, frame.label)
        self._seen.add(frame.id, score, frame.label)
        if self._components is not None:
            self._components.update(frame.id, score, frame.label)
        if self._open_iou is not None and prediction is not None and frame.class_label is not None:
            self._open_iou.update(frame.id, prediction, score, frame.label, frame.class_label)

    def result(self) -> ScoreResult:
        """Measure all frames, and keep the pixel metrics' state where that is wanted."""
        if self._measures.states is not None:
            self._measures.states.mkdir(exist_ok=True)
            self._pixels.save(self._measures.states / state_name(self._pixels.set, self._pixels.name))
        pixels = self._pixels.compute()
        remarks = self._seen.remarks(pixels["auroc"])
        found: dict[str, Any] = {"intervals": {}, "components": {}, "open_world": {}, "at_threshold": {}}
        replicates = self._measures.replicates
        table = FrameTable.of(self._pixels, pixels) if replicates or self._measures.curves else None
        if replicates and table is not None:
            intervals = bootstrap(table, replicates=replicates)
            found["intervals"] = {name: [interval.low, interval.high] for name, interval in intervals.items()}
        if self._components is not None:
            components = self._components.compute(pixels["best_f1_threshold"])
            found["components"] = {**components.values, "threshold": components.threshold}
        if self._threshold is not None:
            achieved = asdict(apply_threshold(self._threshold, self._pixels))
            found["at_threshold"] = {"threshold": self._threshold.value} | {n: achieved[n] for n in AT_THRESHOLD}
        by_class: dict[str, Any] = {}
        if self._open_iou is not None:
            opened = self._open_iou.compute()
            found["open_world"] = opened.values
            by_class = {"closed_iou": opened.closed_iou, "open_iou": opened.open_iou}
            remarks += unlabelled_classes("open-world IoU", opened.unlabelled)
        if self._measures.curves and table is not None:
            self.curves = ScoreCurves.of(self._pixels, pixels, table, replicates=replicates, **by_class)
        return ScoreResult.of(pixels, **found, remarks=remarks)
