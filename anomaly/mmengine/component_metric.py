"""Component metrics of anomaly scores in mmengine's validation and test loops."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from anomaly.errors import InputError
from anomaly.frames import Label, ScoreMap
from anomaly.metrics.component import BEST_F1, ComponentMetrics, component_threshold
from anomaly.metrics.functional.components import TRACKS
from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.pixel import MEMORY_BUDGET, PixelMetrics
from anomaly.mmengine.metric_base import AnomalyMetric, chosen, on_main
from anomaly.registry import METRICS

DEFAULT = ("f1_mean", "siou", "ppv")
COUNTS = ("tp_", "fn_", "fp_")


@METRICS.register_module()
class ComponentAnomalyMetric(AnomalyMetric):
    """F1, sIoU and PPV of anomalous objects by the rules of SegmentMeIfYouCan, in percent, not rounded.

    :class:`anomaly.metrics.component.ComponentMetrics` defines the metrics. They are named ``components.{figure}``, so
    that this metric can be used together with :class:`anomaly.mmengine.pixel_metric.PixelAnomalyMetric`.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels as labels leave the pipeline: after
            ``reduce_zero_label`` and the dataset's own label map.
        track: Rules that decide which components count: ``anomaly_track`` or ``obstacle_track``.
        threshold: Score at or above which a pixel is flagged as anomalous; requires exactly one score. Or ``best_f1``,
            the threshold with the best pixel F1 on the dataset itself; all score maps are then kept in a temporary
            file.
        scores: Names of scores that :func:`anomaly.scores.registry.get_scores` accepts, computed from logits or class
            log-likelihoods. Default: the commonly reported scores that the network supports.
        set: Name of the dataset, as a part of the names of the metrics.
        ignore_index: Label value, or values, of ignored pixels.
        known: Label values of known pixels. Default: the ids of the dataset's classes. Other values are errors.
        images: Pattern such as ``*/fishyscapes/*``; only frames with a matching ``img_path`` count.
        figures: Names of the metrics as in :class:`anomaly.metrics.component.ComponentResult`, and ``threshold``.
            Default: ``f1_mean``, ``siou`` and ``ppv``. Numbers of components and the threshold are not percentages.
        memory_budget: Bytes for all scores together while the best threshold is determined.
        spill_dir: Folder of the temporary file. Default: the system's.
        prefix: First part of the names of the metrics, ``anomaly`` by default.

    Raises:
        InputError: An argument is out of range, or a track, score or metric is unknown.
    """

    def __init__(
        self,
        anomaly_index: int | Sequence[int],
        *,
        track: str = "anomaly_track",
        threshold: float | Literal["best_f1"] = BEST_F1,
        scores: Sequence[str] | None = None,
        set: str = "",
        ignore_index: int | Sequence[int] = 255,
        known: Sequence[int] | None = None,
        images: str = "*",
        figures: Sequence[str] | None = None,
        memory_budget: int = MEMORY_BUDGET,
        spill_dir: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(anomaly_index, scores, set, ignore_index, known, images, prefix)
        if track not in TRACKS:
            raise InputError(f"track: expected one of {', '.join(TRACKS)}, found {track!r}")
        self.track, self.threshold = TRACKS[track], component_threshold(threshold)
        self._budget = Ledger.of(memory_budget)
        self._folder = None if spill_dir is None else Path(spill_dir)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            allowed = [*self._components("").compute(0.0).values, "threshold"]
        if self.threshold != BEST_F1:
            self._check_one_score(self.threshold)
        self.values = chosen(figures, DEFAULT, allowed)
        self._reset()

    def _add(self, score: str, frame: str, score_map: ScoreMap, label: Label) -> None:
        if self.threshold == BEST_F1:
            self._pixels.setdefault(score, self._pixel_metrics(score)).update(frame, score_map, label)
        self._found.setdefault(score, self._components(score)).update(frame, score_map, label)

    def _measure(self, score: str) -> dict[str, float]:
        found = self._found.pop(score, None) or self._components(score)
        if self.threshold == BEST_F1:
            found = found.matched(self._best_f1_threshold(score))
        found.gather()
        return on_main(lambda: self._report(found))

    def _best_f1_threshold(self, score: str) -> float:
        """Find the threshold that is best for the pixels of all processes."""
        pixels = self._pixels.pop(score, None) or self._pixel_metrics(score)
        pixels.gather()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # the component metrics warn about the same
            return on_main(lambda: pixels.compute()["best_f1_threshold"])

    def _report(self, components: ComponentMetrics) -> dict[str, float]:
        result = components.compute()
        scaled = {name: (1 if name.startswith(COUNTS) else 100) * value for name, value in result.values.items()}
        scaled["threshold"] = result.threshold
        return {f"components.{name}": scaled[name] for name in self.values}

    def _reset(self) -> None:
        self._found: dict[str, ComponentMetrics] = {}
        self._pixels: dict[str, PixelMetrics] = {}

    def _components(self, score: str) -> ComponentMetrics:
        return ComponentMetrics(self.track, self.threshold, name=score, dataset=self.dataset, spill_dir=self._folder)

    def _pixel_metrics(self, score: str) -> PixelMetrics:
        return PixelMetrics(score, dataset=self.dataset, memory_budget=self._budget, spill_dir=self._folder)
