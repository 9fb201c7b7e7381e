"""Confidence bands around a ROC curve and a precision-recall curve, by the bootstrap over frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.metrics.bootstrap import FrameTable, check_draws, draw_frames
from anomaly.metrics.functional.resampling import Floats

# Dense where curves are steep: at low false-positive rates and at low recall.
RATES = np.unique(np.concatenate([[0.0], np.geomspace(1e-3, 1, 31), np.linspace(0.05, 1, 20)]))
RECALLS = np.unique(np.concatenate([np.linspace(0.01, 0.1, 10), np.linspace(0.1, 1, 46)]))
_CHUNK = 200  # draws processed at a time


@dataclass(frozen=True)
class CurveBands:
    """Vertical confidence bands: at each rate, the central share ``level`` of the bootstrap draws.

    Args:
        fpr: False-positive rates at which the ROC band is given.
        tpr_low: Lower ends of the true-positive rate at ``fpr``; NaN where no draw has a value.
        tpr_high: Upper ends of the true-positive rate at ``fpr``.
        recall: Recalls at which the precision band is given.
        precision_low: Lower ends of the precision at ``recall``.
        precision_high: Upper ends of the precision at ``recall``.
        level: Confidence level. It holds at each rate separately, not for the whole curve.
        replicates: Number of draws.
    """

    fpr: tuple[float, ...]
    tpr_low: tuple[float, ...]
    tpr_high: tuple[float, ...]
    recall: tuple[float, ...]
    precision_low: tuple[float, ...]
    precision_high: tuple[float, ...]
    level: float
    replicates: int


def curve_bands(table: FrameTable, *, replicates: int = 1000, level: float = 0.95, seed: int = 0) -> CurveBands:
    """Compute confidence bands around both curves, with the draws of :func:`anomaly.metrics.bootstrap.bootstrap`.

    The true-positive rate at a false-positive rate is interpolated linearly between the neighbouring thresholds. The
    precision at a recall is taken at the highest threshold that reaches this recall.

    Args:
        table: Counts of the score, frame by frame.
        replicates: Number of draws. Each draws as many frames as there are, with replacement.
        level: Confidence level, ``0 < level < 1``.
        seed: Seed of the draws.

    Returns:
        Bands at fixed rates; NaN with fewer than two frames.

    Raises:
        InputError: An argument is out of range.
    """
    replicates, level, seed = check_draws(replicates, level, seed)
    draws, _ = draw_frames(len(table.frames), replicates, seed)
    chunks = [_at_rates(table, draws[i : i + _CHUNK]) for i in range(0, replicates, _CHUNK)]
    ends = [_ends(np.concatenate(part), level, len(table.frames)) for part in zip(*chunks, strict=True)]
    (tpr_low, tpr_high), (precision_low, precision_high) = ends
    rates, recalls = tuple(RATES.tolist()), tuple(RECALLS.tolist())
    return CurveBands(rates, tpr_low, tpr_high, recalls, precision_low, precision_high, level, replicates)


def _at_rates(table: FrameTable, draws: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Evaluate both curves of every draw with known and anomaly pixels. Shape: ``(B, RATES)``, ``(B, RECALLS)``."""
    share = draws.astype(np.float64)  # counts below 2^53 stay exact
    tp, fp = (share @ count.astype(np.float64) for count in (table.counts.tp, table.counts.fp))
    defined = (tp[:, -1] > 0) & (fp[:, -1] > 0)
    rates, precisions = np.empty((defined.sum(), len(RATES))), np.empty((defined.sum(), len(RECALLS)))
    for row, (hits, alarms) in enumerate(zip(tp[defined], fp[defined], strict=True)):
        x, y = (np.append(0, count / count[-1]) for count in (alarms, hits))
        left = np.searchsorted(x, RATES, side="right") - 1
        right = np.minimum(left + 1, len(x) - 1)
        width = np.where(x[right] > x[left], x[right] - x[left], 1)
        rates[row] = y[left] + (RATES - x[left]) / width * (y[right] - y[left])
        at = np.minimum(np.searchsorted(y[1:], RECALLS - 1e-12, side="left"), len(hits) - 1)
        precisions[row] = hits[at] / (hits[at] + alarms[at])
    return rates, precisions


def _ends(values: Floats, level: float, frames: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if frames < 2 or not len(values):
        nothing = (float("nan"),) * values.shape[1]
        return nothing, nothing
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return tuple(low.tolist()), tuple(high.tolist())
