"""Confidence intervals of pooled metrics by the bootstrap over frames, for one score or for the difference of two.

Pixels of a frame are not independent. So frames, not pixels, are drawn with replacement (Efron & Tibshirani, An
Introduction to the Bootstrap, 1993). An interval covers the variation between frames of the same kind. It does not
cover the variation between trainings of the network.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.metrics.definitions import Levels
from anomaly.metrics.functional.curve import Scores
from anomaly.metrics.functional.resampling import Floats, SharedCounts, weighted_metrics
from anomaly.metrics.measured import FrameCounts
from anomaly.metrics.pixel import PixelMetrics, PixelResult
from anomaly.utils.given import choice, real, whole

Method = Literal["bca", "percentile"]
METHODS = ("bca", "percentile")
POINTS = 2000  # shared thresholds from anomaly pixels, and as many from known pixels
SAMPLES = 2**16  # pixels of each kind from which thresholds are chosen


class DegenerateBootstrapWarning(UserWarning):
    """Some draws of frames have no value, or a corrected (BCa) interval cannot be computed."""


@dataclass(frozen=True)
class BootstrapInterval:
    """A confidence interval.

    Args:
        low: Lower end.
        high: Upper end.
        level: Confidence level, such as 0.95.
        method: Method that gave the interval: ``bca``, or ``percentile``, also used where BCa is undefined.
        replicates: Number of draws of frames.
        undefined: Number of draws without a known or without an anomaly pixel; they were left out.
    """

    low: float
    high: float
    level: float
    method: Method
    replicates: int
    undefined: int


@dataclass(frozen=True)
class Difference:
    """The difference between the values of two scores on the same frames.

    Args:
        difference: Exact difference.
        interval: Confidence interval of the difference.
        p_value: Two-sided p-value of no difference: ``1 - level`` of the percentile interval that ends at 0. It is at
            least 2 / (replicates + 1).
    """

    difference: float
    interval: BootstrapInterval
    p_value: float


@dataclass(frozen=True)
class FrameTable:
    """Input of the bootstrap for one score on one dataset: exact values, and counts of each frame at shared thresholds.

    About 4000 thresholds represent all pixels. Compared with values recomputed from all pixels of a draw, the error is
    below 1e-4 (``tests/anomaly/test_bootstrap.py``), far below the width of any interval.

    Args:
        name: Name of the score.
        dataset: Name of the dataset.
        frames: Pixel counts of each frame, by its id.
        counts: Counts at the shared thresholds, in the order of ``frames``.
        values: Exact values over all frames, by metric.
        levels: Levels and threshold of the metrics.
    """

    name: str
    dataset: str
    frames: dict[str, FrameCounts]
    counts: SharedCounts
    values: dict[str, float]
    levels: Levels

    @classmethod
    def of(cls, metrics: PixelMetrics, result: PixelResult | None = None) -> FrameTable:
        """Make a table from metrics in exact mode, which are read twice, a frame at a time.

        Args:
            metrics: Metrics in exact mode with at least one frame.
            result: Output of ``metrics.compute()``, if available; saves computing it again.

        Raises:
            InputError: There is no frame, or the metrics are in binned mode.
        """
        thresholds = _shared_thresholds(metrics)
        frames, tp, fp, ties, above = {}, [], [], [], []
        for name, scores in metrics.frames():
            frames[name] = FrameCounts(scores.known.size, scores.anomaly.size, scores.ignored)
            tp.append(scores.anomaly.size - np.searchsorted(scores.anomaly, thresholds, side="left"))
            above.append(scores.anomaly.size - np.searchsorted(scores.anomaly, thresholds, side="right"))
            fp.append(scores.known.size - np.searchsorted(scores.known, thresholds, side="left"))
            ties.append(fp[-1] - scores.known.size + np.searchsorted(scores.known, thresholds, side="right"))
        if not frames:
            raise InputError(f"score {metrics.name!r}: expected frames to draw from, found none; call update() first")
        before = np.append(0, np.sum(tp, axis=0)[:-1])
        counts = SharedCounts(thresholds, np.array(tp), np.array(fp), np.array(ties), np.sum(above, axis=0) == before)
        result = result or metrics.compute()
        return cls(metrics.name, metrics.dataset, frames, counts, result.values, metrics.levels)


def bootstrap(
    table: FrameTable, *, replicates: int = 2000, level: float = 0.95, method: Method = "bca", seed: int = 0
) -> dict[str, BootstrapInterval]:
    """Compute confidence intervals of the pooled metrics.

    ``percentile`` uses quantiles of the replicates. ``bca`` corrects them for bias and skewness (Efron 1987; Efron &
    Tibshirani 1993, eq. 14.9 to 14.15), with the acceleration from a jackknife over frames. Where this is undefined,
    for example when one frame holds all anomalies, the interval falls back to ``percentile``. With a single frame the
    interval is NaN. With fewer than about 20 frames, any bootstrap interval is too narrow.

    Args:
        table: Counts of the score, frame by frame.
        replicates: Number of draws. Each draws as many frames as there are, with replacement.
        level: Confidence level, ``0 < level < 1``.
        method: ``bca`` or ``percentile``.
        seed: Seed of the draws; the same seed gives the same intervals.

    Returns:
        Intervals by the metric names of :class:`anomaly.metrics.PixelResult`, for all pooled metrics except
        ``best_f1_threshold``.

    Raises:
        InputError: An argument is out of range.

    Warns:
        DegenerateBootstrapWarning: Draws without a known or an anomaly pixel were left out, or BCa is undefined.
    """
    replicates, level, seed = check_draws(replicates, level, seed)
    choice("method", method, METHODS)
    draws, left_out = draw_frames(len(table.frames), replicates, seed)
    samples, jackknife = _replicates(table, draws), _replicates(table, left_out)
    intervals = {
        name: _Sampled(table.values[name], samples[name], jackknife[name], method).interval(level) for name in samples
    }
    _warn(table.name, list(intervals.values()), method)
    return intervals


def paired_bootstrap(
    a: FrameTable,
    b: FrameTable,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> dict[str, Difference]:
    """Compute confidence intervals and p-values of the differences ``a - b``, with the same draws for both.

    The p-value is twice the smaller share of replicates on either side of 0. It inverts the percentile interval: it is
    below ``1 - level`` where the interval excludes 0.

    Args:
        a: Counts of one score.
        b: Counts of another score on the same frames and labels, at the same levels. Thresholds may differ.
        replicates: Number of draws. Each draws as many frames as there are, with replacement.
        level: Confidence level, ``0 < level < 1``.
        method: ``percentile`` or ``bca``. With ``bca``, interval and p-value may disagree close to the level.
        seed: Seed of the draws; the same seed gives the same intervals.

    Returns:
        Differences by the metric names of :class:`anomaly.metrics.PixelResult`, for all pooled metrics except
        ``best_f1_threshold``.

    Raises:
        InputError: The two differ in dataset, frames, labels or levels, or an argument is out of range.

    Warns:
        DegenerateBootstrapWarning: Draws without a known or an anomaly pixel were left out, or BCa is undefined.
    """
    replicates, level, seed = check_draws(replicates, level, seed)
    choice("method", method, METHODS)
    _check_paired(a, b)
    draws, left_out = draw_frames(len(a.frames), replicates, seed)
    samples, jackknife = _replicates(a, draws), _replicates(a, left_out)
    other_samples, other_jackknife = _replicates(b, draws), _replicates(b, left_out)
    differences = {}
    for name in samples:
        if name in other_samples:
            difference = a.values[name] - b.values[name]
            sampled = _Sampled(
                difference, samples[name] - other_samples[name], jackknife[name] - other_jackknife[name], method
            )
            differences[name] = Difference(difference, sampled.interval(level), sampled.p_value())
    _warn(f"{a.name} - {b.name}", [each.interval for each in differences.values()], method)
    return differences


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for multiple comparisons, which controls the family-wise error rate (Holm 1979).

    The i-th smallest of m p-values is multiplied by ``m - i + 1``, raised to its predecessor if it is smaller, and
    limited to 1.

    Args:
        p_values: p-values by name, each in 0..1. NaN (an undefined comparison) stays NaN and does not count in m.

    Returns:
        Corrected p-values by name.

    Raises:
        InputError: A p-value is out of range.
    """
    p_values = {name: real(f"p-value of {name!r}", p_value) for name, p_value in p_values.items()}
    for name, p_value in p_values.items():
        if not (math.isnan(p_value) or 0 <= p_value <= 1):
            raise InputError(f"p-value of {name!r}: expected a fraction from 0 to 1, found {p_value}; correct it")
    ascending = sorted((name for name in p_values if not math.isnan(p_values[name])), key=lambda name: p_values[name])
    corrected, largest = dict.fromkeys(p_values, math.nan), 0.0
    for i, name in enumerate(ascending):
        largest = max(largest, min(1.0, (len(ascending) - i) * p_values[name]))
        corrected[name] = largest
    return corrected


class _Sampled:
    """The replicates of one value, without undefined ones, and the corrections of BCa."""

    def __init__(self, estimate: float, samples: Floats, jackknife: Floats, method: Method) -> None:
        self.replicates = len(samples)
        self.samples = np.sort(samples[~np.isnan(samples)])
        self.bias, self.acceleration = 0.0, 0.0
        deviations = jackknife.mean() - jackknife
        spread = float((deviations**2).sum())
        below = self._below(estimate)
        usable = len(jackknife) > 1 and self.samples.size and spread > 0 and 0 < below < 1
        self.method: Method = "bca" if method == "bca" and usable else "percentile"
        if self.method == "bca":
            from scipy.special import ndtri

            self.bias = float(ndtri(below))
            self.acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
        if len(jackknife) < 2:
            self.samples = np.empty(0)

    def interval(self, level: float) -> BootstrapInterval:
        """Compute both ends; a percentile interval is BCa without bias and acceleration."""
        from scipy.special import ndtr, ndtri

        low, high = math.nan, math.nan
        if self.samples.size:
            shifted = self.bias + ndtri([(1 - level) / 2, (1 + level) / 2])
            low, high = np.quantile(self.samples, ndtr(self.bias + shifted / (1 - self.acceleration * shifted)))
        undefined = self.replicates - self.samples.size
        return BootstrapInterval(float(low), float(high), level, self.method, self.replicates, undefined)

    def p_value(self) -> float:
        """Compute twice the smaller share of replicates on either side of 0; it is never 0."""
        if not self.samples.size:
            return math.nan
        below, least = self._below(0.0), 1 / (self.samples.size + 1)
        return 2 * max(min(below, 1 - below), least)

    def _below(self, value: float) -> float:
        """Compute the share of replicates below a value; equal ones count half."""
        if not self.samples.size:
            return math.nan
        ends = [np.searchsorted(self.samples, value, side=side) for side in ("left", "right")]
        return float(np.mean(ends)) / self.samples.size


def _replicates(table: FrameTable, weights: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Compute the values of draws, corrected by the error that the shared thresholds cause over all frames."""
    values = weighted_metrics(table.counts, weights, table.levels)
    approximate = weighted_metrics(table.counts, np.ones((1, len(table.frames)), np.int64), table.levels)
    return {name: np.clip(values[name] - approximate[name] + table.values[name], 0, 1) for name in values}


def draw_frames(frames: int, replicates: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw frames with replacement.

    Args:
        frames: Number of frames, F.
        replicates: Number of draws, B.
        seed: Seed of the draws.

    Returns:
        How often each frame is drawn, ``(B, F)``, and the selections that leave out one frame, ``(F, F)``.
    """
    draws = np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), size=replicates)
    return draws, 1 - np.eye(frames, dtype=np.int64)


def _shared_thresholds(metrics: PixelMetrics) -> Scores:
    """Choose descending thresholds from the scores of known and anomaly pixels, denser towards the highest scores."""
    every = [max(1, -(-size // SAMPLES)) for size in (metrics.num_known, metrics.num_anomaly)]
    samples: tuple[list[Scores], list[Scores]] = ([], [])
    for _, frame in metrics.frames():
        for kept, scores, stride in zip(samples, (frame.known, frame.anomaly), every, strict=True):
            kept.append(scores[::-1][::stride].copy())
    chosen = [_spread(np.sort(np.concatenate(kept))[::-1]) for kept in samples if kept]
    given = [] if metrics.levels.threshold is None else [np.array([metrics.levels.threshold])]
    thresholds = np.unique(np.concatenate([*chosen, *given, [-math.inf]]))
    return thresholds[::-1]


def _spread(scores: Scores) -> Scores:
    """Choose from descending scores: geometrically spaced ranks at the top and evenly spaced ranks over all.

    A score that is chosen more than once is followed by the next larger number, so that its ties are counted alone.
    """
    if not scores.size:
        return scores
    ranks = np.concatenate([np.geomspace(1, scores.size, POINTS // 4), np.linspace(1, scores.size, POINTS)])
    chosen = scores[np.unique(ranks.astype(np.int64)) - 1] if scores.size > POINTS else scores
    values, times = np.unique(chosen, return_counts=True)
    return np.concatenate([values, np.nextafter(values[times > 1], scores.dtype.type(math.inf))])


def check_draws(replicates: int, level: float, seed: int) -> tuple[int, float, int]:
    """Check the arguments of a bootstrap, and return them as Python numbers.

    Args:
        replicates: Number of draws, at least 1.
        level: Confidence level, ``0 < level < 1``.
        seed: Seed of the draws, at least 0.

    Raises:
        InputError: An argument is out of range or not a number of the right kind.
    """
    level = real("level", level, "a fraction above 0 and below 1")
    if not 0 < level < 1:
        raise InputError(f"level: expected a fraction above 0 and below 1, found {level}; 0.95 is the usual level")
    replicates = whole("replicates", replicates, 1, "at least 1, such as 2000")
    return replicates, level, whole("seed", seed, 0, "a whole number from 0 on")


def _check_paired(a: FrameTable, b: FrameTable) -> None:
    settings = [(each.dataset, each.levels.tpr, each.levels.fpr) for each in (a, b)]
    if settings[0] != settings[1]:
        raise InputError(
            f"cannot compare (dataset, tpr, fpr) {settings[0]} with {settings[1]}; evaluate both on the same dataset "
            "at the same levels"
        )
    if apart := sorted(a.frames.keys() ^ b.frames.keys()):
        raise InputError(
            f"cannot compare {a.name!r} with {b.name!r}: {len(apart)} frames, such as {apart[0]!r}, belong to only one "
            "of them; evaluate both on the same frames"
        )
    for frame_id, counts in a.frames.items():
        if counts != b.frames[frame_id]:
            raise InputError(
                f"cannot compare {a.name!r} with {b.name!r}: frame {frame_id!r} has the pixel counts {counts} and "
                f"{b.frames[frame_id]}; evaluate both with the same labels"
            )


def _warn(name: str, intervals: list[BootstrapInterval], method: Method) -> None:
    """Warn once about intervals that are undefined, incomplete or not corrected."""
    draws, undefined = intervals[0].replicates, intervals[0].undefined
    if undefined == draws:
        fault = "intervals are NaN: no draw of at least two frames has both known and anomaly pixels"
    elif undefined > draws / 100:
        fault = f"{undefined} of {draws} draws have no known or no anomaly pixel and are left out of the intervals"
    elif any(interval.method != method for interval in intervals):
        fault = "BCa is undefined for some metrics, whose intervals are percentile intervals"
    else:
        return
    warnings.warn(f"{name}: {fault}", DegenerateBootstrapWarning, stacklevel=3)
