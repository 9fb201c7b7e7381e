"""How sure pooled figures are: the bootstrap over frames, for one method and for the difference between two.

Pixels of one frame are not independent, so frames are drawn, with replacement, never pixels (Efron & Tibshirani, An
Introduction to the Bootstrap, 1993). An interval says what other frames of the same kind might give; it says nothing
about another training of the network.
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
from anomaly.metrics.functional.resampling import Floats, SharedCounts, weighted_figures
from anomaly.metrics.measured import FrameCounts
from anomaly.metrics.pixel import PixelMetrics, PixelResult
from anomaly.utils.given import choice, real, whole

Method = Literal["bca", "percentile"]
METHODS = ("bca", "percentile")
POINTS = 2000  # shared thresholds from the anomaly pixels, and as many from the known ones
SAMPLES = 2**16  # pixels of either kind among which they are chosen


class DegenerateBootstrapWarning(UserWarning):
    """Draws of frames that have no value, or too few frames for a corrected interval."""


@dataclass(frozen=True)
class BootstrapInterval:
    """A confidence interval.

    Args:
        low: Its lower end.
        high: Its upper end.
        level: Of confidence, such as 0.95.
        method: ``bca`` or ``percentile``; the latter also where BCa has no value.
        replicates: Draws of frames.
        undefined: Of these, the draws without a known or without an anomaly pixel, which were left out.
    """

    low: float
    high: float
    level: float
    method: Method
    replicates: int
    undefined: int


@dataclass(frozen=True)
class Difference:
    """One method's figure minus another's on the same frames.

    Args:
        difference: Exact.
        interval: Its confidence interval.
        p_value: Two-sided, of no difference: ``1 - level`` of the percentile interval that ends at 0. At least
            2 / (replicates + 1).
    """

    difference: float
    interval: BootstrapInterval
    p_value: float


@dataclass(frozen=True)
class FrameTable:
    """What the bootstrap needs of one score on one set: exact figures, and each frame's counts at shared thresholds.

    About 4000 thresholds stand for all pixels. Measured against recomputing figures from all pixels of a draw, the
    error is below 1e-4 (``tests/anomaly/test_bootstrap.py``), far below the width of any interval.

    Args:
        name: Of the score.
        dataset: Of the evaluation set.
        frames: Numbers of pixels of each frame, by its id.
        counts: In the order of ``frames``.
        values: Exact, of all frames.
        levels: Where figures are taken.
    """

    name: str
    dataset: str
    frames: dict[str, FrameCounts]
    counts: SharedCounts
    values: dict[str, float]
    levels: Levels

    @classmethod
    def of(cls, metrics: PixelMetrics, result: PixelResult | None = None) -> FrameTable:
        """Read metrics in exact mode twice, a frame at a time.

        Args:
            metrics: With at least one frame.
            result: What ``metrics.compute()`` gave, if that is known already.

        Raises:
            InputError: There is no frame, or the metrics are binned.
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
            raise InputError(f"score {metrics.name!r}: expected frames to draw from, found none; update it first")
        before = np.append(0, np.sum(tp, axis=0)[:-1])
        counts = SharedCounts(thresholds, np.array(tp), np.array(fp), np.array(ties), np.sum(above, axis=0) == before)
        result = result or metrics.compute()
        return cls(metrics.name, metrics.dataset, frames, counts, result.values, metrics.levels)


def bootstrap(
    table: FrameTable, *, replicates: int = 2000, level: float = 0.95, method: Method = "bca", seed: int = 0
) -> dict[str, BootstrapInterval]:
    """Give confidence intervals of the pooled figures.

    ``percentile`` takes quantiles of the replicates. ``bca`` corrects them for bias and for skewness (Efron 1987; Efron
    & Tibshirani 1993, eq. 14.9 to 14.15), the acceleration by the jackknife over frames; where that has no value, as
    when one frame holds every anomaly, it falls back to ``percentile``. One frame alone has no interval: NaN. With less
    than about 20 frames every bootstrap is too narrow.

    Args:
        table: Of the score.
        replicates: Draws of as many frames as there are, with replacement.
        level: Of confidence, ``0 < level < 1``.
        method: ``bca`` or ``percentile``.
        seed: Of the draws; the same seed gives the same intervals.

    Returns:
        By the names of :class:`anomaly.metrics.PixelResult`, for all pooled figures but ``best_f1_threshold``.

    Raises:
        InputError: An argument is out of range.

    Warns:
        DegenerateBootstrapWarning: Draws without a known or an anomaly pixel were left out, or BCa had no value.
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
    """Test the differences ``a - b`` between two methods: each draw of frames is the same for both.

    Args:
        a: Of one method.
        b: Of another on the same frames and labels, at the same levels; thresholds may differ.
        replicates: As of :func:`bootstrap`.
        level: As of :func:`bootstrap`.
        method: As of :func:`bootstrap`; with ``bca`` interval and p-value may disagree near the level.
        seed: As of :func:`bootstrap`.

    Returns:
        As of :func:`bootstrap`. The p-value is twice the smaller share of replicates on either side of 0: it inverts
        the percentile interval, and is below ``1 - level`` where 0 lies outside of that.

    Raises:
        InputError: The two differ in set, frames, labels or levels, or an argument is out of range.

    Warns:
        DegenerateBootstrapWarning: As :func:`bootstrap`.
    """
    replicates, level, seed = check_draws(replicates, level, seed)
    choice("method", method, METHODS)
    _check_paired(a, b)
    draws, left_out = draw_frames(len(a.frames), replicates, seed)
    samples, jackknife = _replicates(a, draws), _replicates(a, left_out)
    other_samples, other_jackknife = _replicates(b, draws), _replicates(b, left_out)
    found = {}
    for name in samples:
        if name in other_samples:
            difference = a.values[name] - b.values[name]
            sampled = _Sampled(
                difference, samples[name] - other_samples[name], jackknife[name] - other_jackknife[name], method
            )
            found[name] = Difference(difference, sampled.interval(level), sampled.p_value())
    _warn(f"{a.name} - {b.name}", [each.interval for each in found.values()], method)
    return found


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number, so that the chance of any false discovery stays at the level (Holm 1979).

    The i-th smallest of m is multiplied by ``m - i + 1``, is at least as large as those before it, and at most 1.

    Args:
        p_values: By name, each in 0..1; NaN, of a comparison that has no value, stays NaN and is not counted.

    Raises:
        InputError: A p-value is out of range.
    """
    p_values = {name: real(f"p-value of {name!r}", p_value) for name, p_value in p_values.items()}
    for name, p_value in p_values.items():
        if not (math.isnan(p_value) or 0 <= p_value <= 1):
            raise InputError(f"p-value of {name!r}: expected a fraction from 0 to 1, found {p_value}")
    ascending = sorted((name for name in p_values if not math.isnan(p_values[name])), key=lambda name: p_values[name])
    corrected, largest = dict.fromkeys(p_values, math.nan), 0.0
    for i, name in enumerate(ascending):
        largest = max(largest, min(1.0, (len(ascending) - i) * p_values[name]))
        corrected[name] = largest
    return corrected


class _Sampled:
    """A figure with its replicates, those without a value left out, and what BCa needs of them."""

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
        """Both ends; percentile is BCa without bias and acceleration."""
        from scipy.special import ndtr, ndtri

        low, high = math.nan, math.nan
        if self.samples.size:
            shifted = self.bias + ndtri([(1 - level) / 2, (1 + level) / 2])
            low, high = np.quantile(self.samples, ndtr(self.bias + shifted / (1 - self.acceleration * shifted)))
        undefined = self.replicates - self.samples.size
        return BootstrapInterval(float(low), float(high), level, self.method, self.replicates, undefined)

    def p_value(self) -> float:
        """Twice the share of replicates on the far side of 0, never 0 itself."""
        if not self.samples.size:
            return math.nan
        below, least = self._below(0.0), 1 / (self.samples.size + 1)
        return 2 * max(min(below, 1 - below), least)

    def _below(self, value: float) -> float:
        """Share of the replicates below a value, those that equal it counting half."""
        if not self.samples.size:
            return math.nan
        ends = [np.searchsorted(self.samples, value, side=side) for side in ("left", "right")]
        return float(np.mean(ends)) / self.samples.size


def _replicates(table: FrameTable, weights: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Figures of draws; by how much the thresholds miss the exact figure of all frames is taken off."""
    found = weighted_figures(table.counts, weights, table.levels)
    missed = weighted_figures(table.counts, np.ones((1, len(table.frames)), np.int64), table.levels)
    return {name: np.clip(found[name] - missed[name] + table.values[name], 0, 1) for name in found}


def draw_frames(frames: int, replicates: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Say how often each frame is drawn, and give all frames but one. Shape: ``(B, F)`` and ``(F, F)``."""
    draws = np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), size=replicates)
    return draws, 1 - np.eye(frames, dtype=np.int64)


def _shared_thresholds(metrics: PixelMetrics) -> Scores:
    """Scores among the pixels of either kind, descending, denser toward the highest; see :class:`SharedCounts`."""
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
    """From descending scores: the highest few, ever fewer, then evenly many; a score that many have on its own."""
    if not scores.size:
        return scores
    ranks = np.concatenate([np.geomspace(1, scores.size, POINTS // 4), np.linspace(1, scores.size, POINTS)])
    chosen = scores[np.unique(ranks.astype(np.int64)) - 1] if scores.size > POINTS else scores
    values, times = np.unique(chosen, return_counts=True)
    return np.concatenate([values, np.nextafter(values[times > 1], scores.dtype.type(math.inf))])


def check_draws(replicates: int, level: float, seed: int) -> tuple[int, float, int]:
    """Give how often to draw, the level of confidence and the seed, of any number type, as Python's own.

    Raises:
        InputError: One is out of range, or no such number.
    """
    level = real("level", level, "a fraction above 0 and below 1")
    if not 0 < level < 1:
        raise InputError(f"level: expected a fraction above 0 and below 1, found {level}; 0.95 is the usual level")
    replicates = whole("replicates", replicates, 1, "at least 1, such as 2000")
    return replicates, level, whole("seed", seed, 0, "a whole number from 0 on")


def _check_paired(a: FrameTable, b: FrameTable) -> None:
    settings = [(each.dataset, each.levels.tpr, each.levels.fpr) for each in (a, b)]
    if settings[0] != settings[1]:
        raise InputError(f"cannot compare (set, tpr, fpr) {settings[0]} with {settings[1]}; measure both alike")
    if apart := sorted(a.frames.keys() ^ b.frames.keys()):
        raise InputError(
            f"cannot compare {a.name!r} with {b.name!r}: {len(apart)} frames, such as {apart[0]!r}, are of one of them "
            "only; measure both on the same frames"
        )
    for frame_id, counts in a.frames.items():
        if counts != b.frames[frame_id]:
            raise InputError(
                f"cannot compare {a.name!r} with {b.name!r}: frame {frame_id!r} has {counts} pixels and "
                f"{b.frames[frame_id]}; measure both with the same labels"
            )


def _warn(name: str, intervals: list[BootstrapInterval], method: Method) -> None:
    """Say once what the intervals of a method lack."""
    draws, undefined = intervals[0].replicates, intervals[0].undefined
    if undefined == draws:
        fault = "intervals are NaN: no draw of at least two frames has both known and anomaly pixels"
    elif undefined > draws / 100:
        fault = f"{undefined} of {draws} draws have no known or no anomaly pixel and are left out of the intervals"
    elif any(interval.method != method for interval in intervals):
        fault = "BCa has no value for all figures; their intervals are percentiles"
    else:
        return
    warnings.warn(f"{name}: {fault}", DegenerateBootstrapWarning, stacklevel=3)
