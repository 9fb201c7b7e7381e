"""The configuration of an evaluation: which metrics are computed, and where a threshold is chosen."""

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
    """Where and how to choose a threshold for every score; see :func:`anomaly.metrics.calibration.choose_threshold`.

    Args:
        dataset: The dataset, by whose labels it is chosen.
        rule: ``tpr``, ``fpr`` or ``best_f1``.
        level: The rule's; None for its default.
    """

    dataset: Dataset
    rule: Rule = "tpr"
    level: float | None = None

    def __post_init__(self) -> None:
        level = check_level(self.rule, self.level)
        if self.level is not None:
            object.__setattr__(self, "level", level)


def parse_calibration(dataset: Dataset, text: str) -> Calibration:
    """A rule for thresholds as people write it, ``tpr=0.95``, ``fpr=0.01`` or ``best_f1``.

    Raises:
        InputError: It is no such rule.
    """
    rule, _, level = text.partition("=")
    if rule not in RULES:
        raise InputError(f"--calibrate-by: expected {', '.join(RULES)}, such as fpr=0.01; found {text!r}")
    try:
        found = float(level) if level else None
    except ValueError as error:
        raise InputError(f"--calibrate-by {text}: expected a number as its level, found {level!r}") from error
    return Calibration(dataset, rule, found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MetricConfig:
    """Which metrics are computed, and with how much memory.

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

    def pixel_metrics(self, score: str, dataset: str) -> PixelMetrics:
        """Empty pixel metrics of one score on one dataset."""
        return PixelMetrics(
            score,
            dataset=dataset,
            mode=self.mode,
            tpr=self.tpr,
            fpr=self.fpr,
            memory_budget=self._ledger,
            spill_dir=self.spill_dir,
        )
