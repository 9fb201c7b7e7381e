"""Pixel metrics of anomaly scores in mmengine's validation and test loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.frames import Label, ScoreMap
from anomaly.metrics.definitions import PER_IMAGE, PIXEL_METRICS
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.pixel import MEMORY_BUDGET, Mode, PixelMetrics
from anomaly.mmengine.metric_base import AnomalyMetric, chosen, on_main
from anomaly.registry import METRICS


@METRICS.register_module()
class PixelAnomalyMetric(AnomalyMetric):
    """AUROC, AP, FPR at a TPR and more, pooled over all pixels of the validation dataset, in percent, not rounded.

    Scores are computed from the maps that mmseg passes on, resized to the size of the image. A metric is NaN, with a
    warning, if the dataset has no known or no anomalous pixel.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels as labels leave the pipeline: after
            ``reduce_zero_label`` (which turns 13 into 12) and the dataset's own label map.
        scores: Names of scores that :func:`anomaly.scores.registry.get_scores` accepts, computed from logits or class
            log-likelihoods; fitted scores and combinations are not available. Default: the commonly reported scores
            that the network supports.
        set: Name of the dataset, as a part of the names of the metrics.
        ignore_index: Label value, or values, of ignored pixels.
        known: Label values of known pixels. Default: the ids of the dataset's classes. Other values are errors.
        images: Pattern such as ``*/fishyscapes/*``; only frames with a matching ``img_path`` count.
        figures: Names of the metrics as in :class:`anomaly.metrics.PixelResult`. Default: ``auroc``, ``ap`` and
            ``fpr95``. ``best_f1_threshold`` is a score, not a percentage.
        mode: ``exact``, or ``binned`` for bounds in constant memory, which also gives ``{figure}_low`` and
            ``{figure}_high``.
        tpr: True-positive rate at which the false-positive rate is reported, ``0 < tpr <= 1``.
        fpr: False-positive rate at which the recall is reported, ``0 <= fpr < 1``.
        threshold: Score at which F1 and IoU are measured too; requires exactly one score.
        memory_budget: Bytes for all scores together; beyond it, scores go to disk.
        spill_dir: Folder of the temporary files. Default: the system's.
        prefix: First part of the names of the metrics, ``anomaly`` by default.

    Raises:
        InputError: An argument is out of range, or a score or metric is unknown.
    """

    def __init__(
        self,
        anomaly_index: int | Sequence[int],
        *,
        scores: Sequence[str] | None = None,
        set: str = "",
        ignore_index: int | Sequence[int] = 255,
        known: Sequence[int] | None = None,
        images: str = "*",
        figures: Sequence[str] | None = None,
        mode: Mode = "exact",
        tpr: float = 0.95,
        fpr: float = 0.05,
        threshold: float | None = None,
        memory_budget: int = MEMORY_BUDGET,
        spill_dir: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(anomaly_index, scores, set, ignore_index, known, images, prefix)
        self._settings: dict[str, Any] = {"dataset": set, "mode": mode, "tpr": tpr, "fpr": fpr, "threshold": threshold}
        self._settings |= {"memory_budget": Ledger.of(memory_budget)}
        self._settings |= {"spill_dir": None if spill_dir is None else Path(spill_dir)}
        levels = PixelMetrics(**self._settings).levels
        if levels.threshold is not None:
            self._check_one_score(levels.threshold)
        at_threshold = [] if threshold is None else ["f1", "iou"]
        means = [metric.at(levels) for metric in PIXEL_METRICS if metric.per_image] + at_threshold
        pooled = [metric.at(levels) for metric in PIXEL_METRICS] + at_threshold
        self.values = chosen(figures, pooled[:3], pooled + [name + PER_IMAGE for name in means])
        self._metrics: dict[str, PixelMetrics] = {}

    def _add(self, score: str, frame: str, score_map: ScoreMap, label: Label) -> None:
        if score not in self._metrics:
            self._metrics[score] = PixelMetrics(score, **self._settings)
        self._metrics[score].update(frame, score_map, label)

    def _measure(self, score: str) -> dict[str, float]:
        metrics = self._metrics.pop(score, None) or PixelMetrics(score, **self._settings)
        metrics.gather()
        return on_main(lambda: self._report(metrics))

    def _report(self, metrics: PixelMetrics) -> dict[str, float]:
        result = metrics.compute()
        report = {}
        for name in self.values:
            scale = 1 if name == "best_f1_threshold" else 100
            report[name] = scale * result[name]
            for end, value in zip(("low", "high"), result.bounds.get(name, ()), strict=False):
                report[f"{name}_{end}"] = scale * value
        return report

    def _reset(self) -> None:
        self._metrics.clear()
