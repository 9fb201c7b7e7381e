"""Curves, bands and histograms of a score on a dataset, for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.metrics.bands import curve_bands
from anomaly.metrics.bootstrap import FrameTable
from anomaly.metrics.pixel import PixelMetrics, PixelResult

BINS = 80
BY_FPR, BY_TPR = 140, 110  # numbers of levels; the codes between them fit into a byte
LEAST_FPR = 1e-4
DRAWS = 1000
_TAIL = 0.005

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class ScoreCurves:
    """Curves, bands and histogram of a score on a dataset, as plain numbers.

    Args:
        thresholds: Thresholds of the thinned curve, descending; see
            :class:`anomaly.metrics.functional.thinned.Curve`.
        tpr: True-positive rates at ``thresholds``.
        fpr: False-positive rates at ``thresholds``.
        precision: Precisions at ``thresholds``.
        bands: Fields of :class:`anomaly.metrics.bands.CurveBands`.
        edges: Edges of the histogram's bins, ascending. The outermost bins include scores beyond the edges.
        known: Share of the known pixels in each bin.
        anomaly: Share of the anomaly pixels in each bin.
        levels: Thresholds that the codes of score maps distinguish, strictly ascending, at most 255; see
            :func:`choose_levels`.
        level_tpr: Exact share of the dataset's anomaly pixels at or above each level.
        level_fpr: Exact share of the dataset's known pixels at or above each level.
        closed_iou: IoU of each class with nothing flagged; empty if it was not measured.
        open_iou: IoU of each class with anomaly as a further class; empty if it was not measured.
    """

    thresholds: Numbers
    tpr: Numbers
    fpr: Numbers
    precision: Numbers
    bands: dict[str, Any]
    edges: Numbers
    known: Numbers
    anomaly: Numbers
    levels: Numbers
    level_tpr: Numbers
    level_fpr: Numbers
    closed_iou: dict[str, float] = field(default_factory=dict)
    open_iou: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        metrics: PixelMetrics,
        result: PixelResult,
        table: FrameTable,
        *,
        replicates: int = 0,
        closed_iou: Mapping[str, float] | None = None,
        open_iou: Mapping[str, float] | None = None,
    ) -> ScoreCurves:
        """Compute curves, bands and histogram from metrics in exact mode.

        Args:
            metrics: Metrics with at least one known and one anomaly pixel.
            result: Output of ``metrics.compute()``.
            table: Bootstrap table of the metrics.
            replicates: Number of draws for the bands; 0 uses 1000.
            closed_iou: IoU of each class with nothing flagged, if it was measured.
            open_iou: IoU of each class with anomaly as a further class, if it was measured.
        """
        levels = choose_levels(table)
        tp, fp = metrics.counts_at(levels)
        edges = _edges(table)
        known, anomaly = _histogram(metrics, edges)
        curve = result.curve
        return cls(
            thresholds=curve.thresholds,
            tpr=curve.tpr,
            fpr=curve.fpr,
            precision=curve.precision,
            bands=asdict(curve_bands(table, replicates=replicates or DRAWS)),
            edges=tuple(edges.tolist()),
            known=tuple((known / metrics.num_known).tolist()),
            anomaly=tuple((anomaly / metrics.num_anomaly).tolist()),
            levels=tuple(levels.tolist()),
            level_tpr=tuple((tp / metrics.num_anomaly).tolist()),
            level_fpr=tuple((fp / metrics.num_known).tolist()),
            closed_iou=dict(closed_iou or {}),
            open_iou=dict(open_iou or {}),
        )

    def record(self) -> dict[str, Any]:
        """Return all fields as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Any) -> ScoreCurves:
        """Make curves from the output of :meth:`record`.

        Raises:
            KeyError: A field is missing.
            ValueError: A value is not a finite number.
        """
        values: dict[str, Any] = {}
        for one in fields(cls):
            value = record[one.name]
            values[one.name] = _numbers(value) if str(one.type) == "Numbers" else {str(k): value[k] for k in value}
        bands = values["bands"]
        values["bands"] = {
            k: _numbers(v, finite=False) if isinstance(v, (list, tuple)) else float(v) for k, v in bands.items()
        }
        for name in ("closed_iou", "open_iou"):
            values[name] = {key: float(value) for key, value in values[name].items()}
        return cls(**values)


def choose_levels(table: FrameTable) -> npt.NDArray[np.float64]:
    """Choose thresholds for the codes of score maps, so that low false-positive rates and recall are both resolved.

    About half of them are the lowest thresholds that stay within a false-positive rate, for rates spaced geometrically
    from 1e-4 to 1. The others are the highest thresholds that reach a recall, for evenly spaced recalls.

    Args:
        table: Bootstrap table of the score.

    Returns:
        Finite thresholds, ascending, at most 250.
    """
    tp, fp = (count.sum(0) for count in (table.counts.tp, table.counts.fp))
    by_fpr = np.searchsorted(fp, np.geomspace(LEAST_FPR, 1, BY_FPR) * fp[-1], side="right") - 1
    by_tpr = np.searchsorted(tp, np.linspace(1 / BY_TPR, 1, BY_TPR) * tp[-1] - 1e-9, side="left")
    chosen = np.unique(np.concatenate([by_fpr[by_fpr >= 0], by_tpr]))
    values = np.unique(table.counts.thresholds[chosen].astype(np.float64))
    return values[np.isfinite(values)]


def _edges(table: FrameTable) -> npt.NDArray[np.float64]:
    """Choose bins that cover all but the outermost 0.5 % of the known and of the anomaly pixels."""
    thresholds, ends = table.counts.thresholds.astype(np.float64), []
    finite = thresholds[np.isfinite(thresholds)]
    for count in (table.counts.tp, table.counts.fp):
        share = count.sum(0) / count.sum(0)[-1]
        ends += [float(thresholds[min(int(np.searchsorted(share, at)), len(finite) - 1)]) for at in (_TAIL, 1 - _TAIL)]
    low, high = min(ends), max(ends)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _histogram(
    metrics: PixelMetrics, edges: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    counts = np.zeros((2, BINS), np.int64)
    for _, frame in metrics.frames():
        for row, scores in zip(counts, (frame.known, frame.anomaly), strict=True):
            row += np.diff(np.searchsorted(scores, edges[1:-1].astype(scores.dtype)), prepend=0, append=scores.size)
    return counts[0], counts[1]


def _numbers(values: Any, *, finite: bool = True) -> Numbers:
    numbers = tuple(float(value) for value in values)
    if finite and not all(math.isfinite(value) for value in numbers):
        raise ValueError("expected finite numbers")
    return numbers
