"""Configuration of an evaluation: which metrics are computed, and where a threshold is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.metrics.calibration import RULES, Rule, Threshold, check_level
from anomaly.metrics.component import BEST_F1, component_threshold
from anomaly.metrics.definitions import Levels
from anomaly.metrics.functional.components import Track
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.pixel import MEMORY_BUDGET, MODES, Mode, PixelMetrics
from anomaly.utils.given import choice, switch, whole


@dataclass(frozen=True)
class Calibration:
    """Where and how a threshold is chosen for every score; see :func:`anomaly.metrics.calibration.choose_threshold`.

    Args:
        dataset: The dataset whose labels determine the threshold.
        rule: ``"tpr"``, ``"fpr"`` or ``"best_f1"``.
        level: Level of the rule; None for its default.
    """

    dataset: Dataset
    rule: Rule = "tpr"
    level: float | None = None

    def __post_init__(self) -> None:
        level = check_level(self.rule, self.level)
        if self.level is not None:
            object.__setattr__(self, "level", level)


def parse_calibration(dataset: Dataset, text: str) -> Calibration:
    """Parse a threshold rule such as ``tpr=0.95``, ``fpr=0.01`` or ``best_f1``.

    Args:
        dataset: The dataset on which the threshold is chosen.
        text: The rule.

    Raises:
        InputError: The rule is unknown, or its level is no number.
    """
    rule, _, level = text.partition("=")
    if rule not in RULES:
        raise InputError(f"--calibrate-by: expected a rule of {', '.join(RULES)}, such as fpr=0.01; found {text!r}")
    try:
        found = float(level) if level else None
    except ValueError as error:
        raise InputError(
            f"--calibrate-by {text}: expected a number as the level, found {level!r}; correct it"
        ) from error
    return Calibration(dataset, rule, found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MetricConfig:
    """Which metrics are computed, and with how much memory.

    Numbers may be of any type, such as numpy scalars; they are stored as Python numbers.

    Args:
        mode: ``"exact"``, or ``"binned"`` for bounds of the pixel metrics in constant memory. Thresholds, replicates
            and curves need ``"exact"``.
        memory_budget: Bytes for the pixel metrics of all scores and datasets together; beyond it, scores go to disk. Or
            a ledger that other objects share.
        spill_dir: Folder of these temporary files. Default: the system's.
        track: Rules of the component metrics, one of :data:`anomaly.metrics.functional.components.TRACKS`. None leaves
            component metrics out.
        components_at: Threshold of the component metrics: ``"best_f1"``, the one with the best pixel F1 on the dataset
            itself (as in SegmentMeIfYouCan); ``"calibrated"``, the one in ``thresholds``; or a score value.
        replicates: Number of bootstrap replicates for confidence intervals, usually 2000. 0 leaves confidence intervals
            out.
        thresholds: Threshold of each score, chosen on another dataset by
            :func:`anomaly.evaluation.evaluator.calibrate`. ``calibrate_on`` of :func:`anomaly.evaluate` sets it.
        states: Folder to which the pixel metrics of each dataset and score are written, as ``DATASET.SCORE.npz``. None
            writes none.
        curves: Whether curves for the report are computed; needs ``"exact"``. :func:`anomaly.evaluate` sets it.
        tpr: True-positive rate at which the false-positive rate is reported, ``0 < tpr <= 1``. 0.95 gives FPR95.
        fpr: False-positive rate at which the recall is reported, ``0 <= fpr < 1``.

    Raises:
        InputError: A value is out of range or of a wrong type, ``components_at`` is given without ``track``, or the
            mode is ``"binned"`` with options that need exact scores.
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
                "mode='binned': expected no replicates, thresholds or curves, which need exact scores, found some; use "
                "mode='exact'"
            )
        if not (isinstance(self.components_at, str) and self.components_at == "calibrated"):
            object.__setattr__(self, "components_at", component_threshold(self.components_at))
        if self.track is None and self.components_at != BEST_F1:
            raise InputError(f"components_at={self.components_at}: expected a track too, found none; set both")
        object.__setattr__(
            self, "replicates", whole("replicates", self.replicates, 0, "a number of draws, or 0 for none")
        )
        object.__setattr__(self, "curves", switch("curves", self.curves))
        ledger = Ledger.of(self.memory_budget)
        object.__setattr__(self, "_ledger", ledger)
        if ledger is not self.memory_budget:
            object.__setattr__(self, "memory_budget", ledger.limit)

    def pixel_metrics(self, score: str, dataset: str) -> PixelMetrics:
        """Make empty pixel metrics.

        Args:
            score: Name of the score.
            dataset: Name of the dataset.
        """
        return PixelMetrics(
            score,
            dataset=dataset,
            mode=self.mode,
            tpr=self.tpr,
            fpr=self.fpr,
            memory_budget=self._ledger,
            spill_dir=self.spill_dir,
        )
