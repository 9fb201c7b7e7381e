"""All metrics of one score on one dataset."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anomaly.datasets.dataset import Dataset
from anomaly.evaluation.config import MetricConfig
from anomaly.evaluation.score_maps import ScoreMaps
from anomaly.frames import Frame
from anomaly.metrics.bootstrap import FrameTable, bootstrap
from anomaly.metrics.calibration import apply_threshold
from anomaly.metrics.component import BEST_F1, ComponentMetrics
from anomaly.metrics.open_iou import OpenIoUMetrics
from anomaly.metrics.pixel import PixelResult
from anomaly.metrics.score_curves import ScoreCurves
from anomaly.results.records import ScoreResult, state_name
from anomaly.results.remarks import SeenValues, unlabelled_classes
from anomaly.utils.processes import ALONE, Processes

AT_THRESHOLD = ("tpr", "fpr", "precision", "f1", "iou")


class ScoreMetrics:
    """All metrics of one score on one dataset.

    A threshold that was chosen on a dataset of the same name is not applied, and metrics that need one are left out.

    Args:
        score: Name of the score.
        dataset: The dataset.
        config: What to measure.
        classes: Names of the network's classes. Open-world IoU is measured if they are also the dataset's classes.

    Attributes:
        curves: Curves for the report; None before :meth:`result`, or if ``config`` does not ask for them.
        table: Counts of each frame at shared thresholds, for paired comparisons; None before :meth:`result`, or if
            ``config`` asks for neither curves nor replicates.
    """

    curves: ScoreCurves | None = None
    table: FrameTable | None = None

    def __init__(self, score: str, dataset: Dataset, config: MetricConfig, classes: tuple[str, ...]) -> None:
        self._config = config
        self._pixels = config.pixel_metrics(score, dataset.name)
        threshold = config.thresholds.get(score)
        self._threshold = None if threshold is None or threshold.dataset == dataset.name else threshold
        self._components: ComponentMetrics | None = None
        at: float | Literal["best_f1"] | None
        at = config.components_at if config.components_at != "calibrated" else None
        if at is None and self._threshold is not None:
            at = self._threshold.value
        if config.track is not None and at is not None:
            self._components = ComponentMetrics(
                config.track, at, name=score, dataset=dataset.name, spill_dir=config.spill_dir
            )
        self._seen = SeenValues()
        self._open_iou: OpenIoUMetrics | None = None
        if self._threshold is not None and dataset.classes and dataset.classes == classes:
            self._open_iou = OpenIoUMetrics(classes, self._threshold, name=score, dataset=dataset.name)

    @property
    def needs_classes(self) -> bool:
        """Whether :meth:`update` needs the predicted class of every pixel."""
        return self._open_iou is not None

    def update(self, frame: Frame, maps: ScoreMaps, label: Any, prediction: npt.NDArray[np.integer] | None) -> None:
        """Add a frame.

        Args:
            frame: The frame.
            maps: Its score maps, of which the metrics take theirs. Shape: ``(H, W)``, as its label.
            label: Its label where the maps are, from ``maps.beside``.
            prediction: The predicted class of every pixel, if :attr:`needs_classes`. Shape: ``(H, W)``.

        Raises:
            InputError: A metric cannot be computed from this input.
        """
        name = self._pixels.name
        self._pixels.update(frame.id, maps.kept[name], label)
        self._seen.add(frame.id, maps.kept[name], label)
        if self._components is not None:
            self._components.update(frame.id, maps[name], frame.label)
        if self._open_iou is not None and prediction is not None and frame.class_label is not None:
            self._open_iou.update(frame.id, prediction, maps[name], frame.label, frame.class_label)

    def result(self, processes: Processes = ALONE) -> ScoreResult | None:
        """Compute the metrics of all frames, and save the state of the pixel metrics if ``config.states`` is set.

        Args:
            processes: The processes that share the frames; every one calls this method.

        Returns:
            The metrics on process 0, None on the others.
        """
        if processes.size == 1:
            return self._compute(self._pixels.compute())
        processes.merge(self._pixels)
        for part in processes.gather(self._seen):
            self._seen.merge(part)
        if self._open_iou is not None:
            processes.merge(self._open_iou)
        pixels = self._pixels.compute() if processes.rank == 0 else None
        best_f1_threshold = processes.from_first(math.nan if pixels is None else pixels["best_f1_threshold"])
        if self._components is not None:
            if self._components.threshold == BEST_F1:  # so that no score map has to travel
                self._components = self._components.matched(best_f1_threshold)
            processes.merge(self._components)
        return None if pixels is None else self._compute(pixels)

    def _compute(self, pixels: PixelResult) -> ScoreResult:
        if self._config.states is not None:
            self._config.states.mkdir(exist_ok=True)
            self._pixels.save(self._config.states / state_name(self._pixels.dataset, self._pixels.name))
        remarks = self._seen.remarks(pixels["auroc"])
        found: dict[str, Any] = {"confidence_intervals": {}, "components": {}, "open_world": {}, "at_threshold": {}}
        replicates = self._config.replicates
        table = FrameTable.of(self._pixels, pixels) if replicates or self._config.curves else None
        self.table = table
        if replicates and table is not None:
            intervals = bootstrap(table, replicates=replicates)
            found["confidence_intervals"] = {
                name: [interval.low, interval.high] for name, interval in intervals.items()
            }
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
        if self._config.curves and table is not None:
            self.curves = ScoreCurves.of(self._pixels, pixels, table, replicates=replicates, **by_class)
        return ScoreResult.of(pixels, **found, remarks=remarks)
