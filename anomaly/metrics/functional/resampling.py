"""Metrics of many weighted selections of frames at once, from counts at shared thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.metrics.definitions import PIXEL_METRICS, Levels
from anomaly.metrics.functional.curve import Counts, Scores

Floats = npt.NDArray[np.float64]
_CHUNK = 2**18  # thresholds times selections processed at a time


@dataclass(frozen=True)
class SharedCounts:
    """Counts of each frame at thresholds shared by all frames; pixels with ``score >= threshold`` are flagged.

    Args:
        thresholds: Strictly descending; the last is minus infinity, which flags every pixel.
        tp: Anomaly pixels at or above each threshold.
        fp: Known pixels at or above each threshold.
        ties: Known pixels whose score equals the threshold.
        alone: Whether, in all frames, every anomaly pixel between this threshold (included) and the next higher one
            has exactly this threshold as its score. The counts are then complete between the two.

    Shape:
        thresholds and alone ``(K,)``; tp, fp and ties ``(F, K)``, int64.
    """

    thresholds: Scores
    tp: Counts
    fp: Counts
    ties: Counts
    alone: npt.NDArray[np.bool_]


def weighted_metrics(counts: SharedCounts, weights: Counts, levels: Levels) -> dict[str, Floats]:
    """Compute pooled metrics for B selections; in selection b, frame f counts ``weights[b, f]`` times.

    Counts at the thresholds are exact. Between two thresholds, anomaly and known pixels are assumed to be evenly mixed,
    unless all anomaly pixels there have the same score. So values are exact if every distinct anomaly score is a
    threshold, and otherwise improve with the density of the thresholds.

    Args:
        counts: Counts of F frames.
        weights: How often each frame counts, integers from 0.
        levels: Levels of the metrics; ``levels.threshold`` must be one of the thresholds in ``counts``.

    Shape:
        weights ``(B, F)``, to ``(B,)`` for each metric.

    Returns:
        Values by the metric names of :class:`anomaly.metrics.PixelResult`; NaN where a selection has no known or no
        anomaly pixel.
    """
    rows = max(1, _CHUNK // len(counts.thresholds))
    parts = [_values(counts, weights[i : i + rows], levels) for i in range(0, len(weights), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Curves:
    """Weighted counts of B selections, each ``(B, K)``; ``..._before`` are those at the next higher threshold."""

    def __init__(self, counts: SharedCounts, weights: Counts) -> None:
        share = weights.astype(np.float64)  # counts below 2^53 stay exact
        self.tp, self.fp, self.ties = (
            share @ count.astype(np.float64) for count in (counts.tp, counts.fp, counts.ties)
        )
        self.tp_before, self.fp_before = (np.pad(count[:, :-1], ((0, 0), (1, 0))) for count in (self.tp, self.fp))
        self.num_anomaly, self.num_known = self.tp[:, -1:], self.fp[:, -1:]
        self.alone = counts.alone


def _auroc(curves: _Curves, levels: Levels) -> Floats:
    at_or_above = np.where(curves.alone, curves.fp - curves.ties / 2, (curves.fp_before + curves.fp) / 2)
    wins = ((curves.tp - curves.tp_before) * (curves.num_known - at_or_above)).sum(1)
    return wins / (curves.num_known * curves.num_anomaly)[:, 0]


def _average_precision(curves: _Curves, levels: Levels) -> Floats:
    precision = curves.tp / np.maximum(curves.tp + curves.fp, 1)
    flagged_before = curves.tp_before + curves.fp_before
    before = np.where(flagged_before > 0, curves.tp_before / np.maximum(flagged_before, 1), precision)
    mean = np.where(curves.alone, precision, (before + precision) / 2)
    return ((curves.tp - curves.tp_before) * mean).sum(1) / curves.num_anomaly[:, 0]


def _fpr_at_tpr(curves: _Curves, levels: Levels) -> Floats:
    first = np.argmax(curves.tp / curves.num_anomaly >= levels.tpr, axis=1)
    tp, tp_before, fp, fp_before = _take(first, curves.tp, curves.tp_before, curves.fp, curves.fp_before)
    share = (levels.tpr * curves.num_anomaly[:, 0] - tp_before) / np.maximum(tp - tp_before, 1)
    share = np.where(curves.alone[first], 1, np.clip(share, 0, 1))
    return (fp_before + share * (fp - fp_before)) / curves.num_known[:, 0]


def _recall_at_fpr(curves: _Curves, levels: Levels) -> Floats:
    first = np.argmax(curves.fp / curves.num_known > levels.fpr, axis=1)  # exists: the last one flags every pixel
    tp, tp_before, fp, fp_before = _take(first, curves.tp, curves.tp_before, curves.fp, curves.fp_before)
    share = (levels.fpr * curves.num_known[:, 0] - fp_before) / np.maximum(fp - fp_before, 1)
    share = np.where(curves.alone[first], 0, np.clip(share, 0, 1))
    return (tp_before + share * (tp - tp_before)) / curves.num_anomaly[:, 0]


def _best_f1(curves: _Curves, levels: Levels) -> Floats:
    return (2 * curves.tp / (curves.tp + curves.fp + curves.num_anomaly)).max(1)


_BY_NAME = {
    "auroc": _auroc,
    "ap": _average_precision,
    "fpr{tpr}": _fpr_at_tpr,
    "best_f1": _best_f1,
    "recall_at_fpr{fpr}": _recall_at_fpr,
}


def _values(counts: SharedCounts, weights: Counts, levels: Levels) -> dict[str, Floats]:
    curves = _Curves(counts, weights)
    with np.errstate(divide="ignore", invalid="ignore"):  # selections without known or anomaly pixels are NaN below
        by_name = {
            metric.at(levels): _BY_NAME[metric.name](curves, levels)
            for metric in PIXEL_METRICS
            if metric.name in _BY_NAME
        }
        if levels.threshold is not None:
            at = int(np.flatnonzero(counts.thresholds == levels.threshold)[0])
            tp, union = curves.tp[:, at], curves.fp[:, at] + curves.num_anomaly[:, 0]
            by_name |= {"f1": 2 * tp / (tp + union), "iou": tp / union}
    defined = (curves.num_known > 0) & (curves.num_anomaly > 0)
    return {name: np.where(defined[:, 0], values, np.nan) for name, values in by_name.items()}


def _take(at: npt.NDArray[np.intp], *counts: Floats) -> tuple[Floats, ...]:
    """Take column ``at[b]`` from row b of each array. Shape ``(B,)`` and ``(B, K)`` to ``(B,)``."""
    return tuple(np.take_along_axis(count, at[:, None], axis=1)[:, 0] for count in counts)
