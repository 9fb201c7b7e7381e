"""What a report shows of one score on one set beside its figures: curves, bands, histograms, levels."""

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
BY_FPR, BY_TPR = 140, 110  # levels; with nothing and everything their codes fit into a byte
LEAST_FPR = 1e-4
DRAWS = 1000
_TAIL = 0.005

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class ScoreCurves:
    """One score on one set, as plain numbers.

    Args:
        thresholds: Of the thinned curve, from the highest down; see :class:`anomaly.metrics.functional.thinned.Curve`.
        tpr: At these thresholds.
        fpr: At these thresholds.
        precision: At these thresholds.
        bands: Fields of :class:`anomaly.metrics.bands.CurveBands`.
        edges: Of the histogram's bins, ascending; what lies beyond them is in the outermost bins.
        known: Share of the known pixels in each bin.
        anomaly: Share of the anomaly pixels in each bin.
        levels: Thresholds that codes tell apart, strictly ascending, at most 255; see :func:`choose_levels`.
        level_tpr: Share of the set's anomaly pixels at or above each level, exact.
        level_fpr: Share of the set's known pixels at or above each level, exact.
        closed_iou: By class, on the set, nothing called anomalous; empty where it was not measured.
        open_iou: By class, on the set, anomalies being a further class; likewise.
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
        """Take them from exact metrics.

        Args:
            metrics: With at least one known and one anomaly pixel.
            result: What ``metrics.compute()`` gave.
            table: Of the metrics.
            replicates: Draws for the bands; 0 takes 1000.
            closed_iou: See above.
            open_iou: See above.
        """
        levels = choose_levels(table)
        tp, fp = metrics.counts_at(levels)
        edges = _edges(table)
        known, anomaly = _histogram(metrics, edges)
        curve = result.curve
        return cls(
            *(curve.thresholds, curve.tpr, curve.fpr, curve.precision),
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
        """Everything, as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Any) -> ScoreCurves:
        """Make them of what :meth:`record` gave. Raises ``ValueError`` or ``KeyError`` where it is not that."""
        found: dict[str, Any] = {}
        for one in fields(cls):
            value = record[one.name]
            found[one.name] = _numbers(value) if str(one.type) == "Numbers" else {str(k): value[k] for k in value}
        bands = found["bands"]
        found["bands"] = {
            k: _numbers(v, finite=False) if isinstance(v, (list, tuple)) else float(v) for k, v in bands.items()
        }
        for name in ("closed_iou", "open_iou"):
            found[name] = {key: float(value) for key, value in found[name].items()}
        return cls(**found)


def choose_levels(table: FrameTable) -> npt.NDArray[np.float64]:
    """Choose thresholds for a picture's codes, so that both low false-positive rates and recall are resolved.

    About half of them are the lowest whose share of known pixels called anomalous is at most a rate, for rates that
    grow by a factor from 1e-4 to 1; the others the highest that catch a share of the anomaly pixels, for even shares.

    Returns:
        Ascending, finite, at most 250.
    """
    tp, fp = (count.sum(0) for count in (table.counts.tp, table.counts.fp))
    by_fpr = np.searchsorted(fp, np.geomspace(LEAST_FPR, 1, BY_FPR) * fp[-1], side="right") - 1
    by_tpr = np.searchsorted(tp, np.linspace(1 / BY_TPR, 1, BY_TPR) * tp[-1] - 1e-9, side="left")
    chosen = np.unique(np.concatenate([by_fpr[by_fpr >= 0], by_tpr]))
    values = np.unique(table.counts.thresholds[chosen].astype(np.float64))
    return values[np.isfinite(values)]


def _edges(table: FrameTable) -> npt.NDArray[np.float64]:
    """Bins between the outer half percents of either kind of pixel."""
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
    found = tuple(float(value) for value in values)
    if finite and not all(math.isfinite(value) for value in found):
        raise ValueError("numbers that should all be finite")
    return found
