"""A histogram of real numbers in a fixed number of bins, and the bounds of a curve that it gives.

Bins are narrow near 0 and grow with the distance from it, and they are only as wide as the range of the scores
requires. Let ``bits(x)`` be the bit pattern of a float64, read as an integer. The key of a score is
``sign(x) (bits(|x| + c) - bits(c))`` with ``c = 2^-10``: linear for ``|x|`` far below ``c``, logarithmic above. A bin
holds the scores whose keys agree except in their last ``shift`` bits. ``shift`` is the smallest value with which the
range fits. It depends on the lowest and the highest score only, so histograms can be added in any order and grouping.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.metrics.functional.curve import OperatingPoints, Scores

BINS = 2**21
PART = 2**18  # operating points per part of a curve
_CORE = np.array([2.0**-10])
_CORE_BITS = int(_CORE.view(np.int64)[0])


@dataclass(frozen=True)
class Histogram:
    """Numbers of known and anomaly pixels with scores in each bin.

    Args:
        lowest: Key of the lowest score.
        highest: Key of the highest score.
        known: Known pixels per bin, bins ascending; int32 for one frame, int64 for a sum.
        anomaly: Anomaly pixels per bin, in the same order and of the same type.

    Shape:
        known and anomaly ``((highest >> shift) - (lowest >> shift) + 1,)``, at most ``BINS``.
    """

    lowest: int
    highest: int
    known: npt.NDArray[np.integer]
    anomaly: npt.NDArray[np.integer]

    @property
    def shift(self) -> int:
        """Number of the lowest bits of a key that its bin does not resolve."""
        return _shift(self.lowest, self.highest)

    def check(self, known: int, anomaly: int) -> None:
        """Raise ``ValueError`` unless the counts are consistent and add up to these numbers of pixels."""
        fits = -(2**63) <= self.lowest <= self.highest < 2**63
        for counts, total in ((self.known, known), (self.anomaly, anomaly)):
            fits = fits and counts.dtype in (np.int32, np.int64) and counts.shape == (_bins(self.lowest, self.highest),)
            fits = fits and counts.min() >= 0 and counts.sum(dtype=np.int64) == total
        if not fits:
            raise ValueError(f"the counts do not add up to {known} known and {anomaly} anomaly pixels")

    def lower_ends(self, bins: npt.NDArray[np.int64]) -> Scores:
        """Return the lowest score of each bin, given by its position in the arrays. Shape: ``(B,)`` to ``(B,)``."""
        return from_bin_keys(((self.lowest >> self.shift) + bins) << self.shift)

    def __add__(self, other: Histogram) -> Histogram:
        lowest, highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        known, anomaly = (np.zeros(_bins(lowest, highest), np.int64) for _ in range(2))
        total = Histogram(lowest, highest, known, anomaly)
        total._add(self)
        total._add(other)
        return total

    def __iadd__(self, other: Histogram) -> Histogram:
        """Add in place if the range allows it and the counts are int64, else make a new histogram."""
        if self.known.dtype != np.int64 or other.lowest < self.lowest or other.highest > self.highest:
            return self + other
        self._add(other)
        return self

    def _add(self, part: Histogram) -> None:
        """Add counts in place; the range of ``part`` must lie within that of this histogram."""
        first, counts = part._coarser(self.shift)
        start = first - (self.lowest >> self.shift)
        for total, added in zip((self.known, self.anomaly), counts, strict=True):
            total[start : start + len(added)] += added

    def _coarser(self, shift: int) -> tuple[int, list[npt.NDArray[np.integer]]]:
        """Return the first bin and the counts from there on, with bins that do not resolve ``shift`` bits."""
        first, counts = self.lowest >> self.shift, [self.known, self.anomaly]
        for _ in range(shift - self.shift):
            counts = [_pairs(each, odd=first % 2) for each in counts]
            first >>= 1
        return first, counts


def histogram(known: Scores, anomaly: Scores) -> Histogram | None:
    """Count finite scores in bins.

    Args:
        known: Scores of known pixels, in any order. Shape ``(N,)``.
        anomaly: Scores of anomaly pixels, in any order. Shape ``(P,)``.

    Returns:
        The histogram; ``None`` if there are no scores.
    """
    keys = [bin_keys(scores) for scores in (known, anomaly)]
    if not known.size and not anomaly.size:
        return None
    lowest = min(int(part.min()) for part in keys if part.size)
    highest = max(int(part.max()) for part in keys if part.size)
    shift = _shift(lowest, highest)
    first, bins = lowest >> shift, _bins(lowest, highest)
    for part in keys:
        part >>= shift
        part -= first
    return Histogram(lowest, highest, *(np.bincount(part, minlength=bins).astype(np.int32) for part in keys))


def bin_keys(scores: Scores) -> npt.NDArray[np.int64]:
    """Map finite scores to integer keys without changing their order. Shape ``(N,)``, to int64.

    The key of ``x`` is ``sign(x) (bits(|x| + c) - bits(c))`` with ``c = 2^-10``, where ``bits`` reads the bit pattern
    of a float64 as an integer.
    """
    size = np.abs(scores).astype(np.float64)
    size += _CORE[0]
    keys = size.view(np.int64)
    keys -= _CORE_BITS
    np.negative(keys, out=keys, where=scores < 0)
    return keys


def from_bin_keys(keys: npt.NDArray[np.int64]) -> Scores:
    """Map keys back to scores in float64, up to rounding. Shape ``(N,)``."""
    size = (np.abs(keys) + _CORE_BITS).view(np.float64) - _CORE[0]
    return np.where(keys < 0, -size, size)


class BinnedCurve:
    """The operating points that scores in given bins could have.

    A bin gives only the number of its scores.

    - ``ties`` treats the scores of a bin as equal. Its points lie on the true curve, at the lower ends of the bins.
    - ``best`` treats the anomaly scores of a bin as equal and above its known scores.
    - ``worst`` treats the anomaly scores of a bin as all different and below its known scores.

    At equal numbers of true positives, the true curve has at least as many false positives as ``best`` and at most as
    many as ``worst``. So the exact value of any metric that improves with more true and with fewer false positives
    lies between the values of these two.

    Args:
        counts: Pixels per bin.
    """

    def __init__(self, counts: Histogram) -> None:
        filled = np.flatnonzero(counts.anomaly > 0)[::-1]
        below = np.cumsum(counts.known, dtype=counts.known.dtype)  # known pixels up to each bin
        self._totals = int(below[-1]), int(counts.anomaly.sum(dtype=np.int64))
        self._hits, self._ties = (each[filled].astype(np.int64) for each in (counts.anomaly, counts.known))
        self._tp = np.cumsum(self._hits)
        self._fp = below[-1] - below[filled].astype(np.int64) + self._ties
        self._thresholds = counts.lower_ends(filled)

    def ties(self) -> Iterator[OperatingPoints]:
        """Yield the points with the scores of each bin equal, in one part."""
        yield OperatingPoints(self._thresholds, self._tp, self._fp, self._hits, self._ties, *self._totals)

    def best(self) -> Iterator[OperatingPoints]:
        """Yield the points of the best possible order within each bin, in one part."""
        none = np.zeros_like(self._ties)
        yield OperatingPoints(self._thresholds, self._tp, self._fp - self._ties, self._hits, none, *self._totals)

    def worst(self) -> Iterator[OperatingPoints]:
        """Yield the points of the worst possible order within each bin, in parts, from the highest threshold down."""
        for start in range(0, self._totals[1], PART):
            stop = min(start + PART, self._totals[1])
            tp = np.arange(start + 1, stop + 1)
            first, last = np.searchsorted(self._tp, [start + 1, stop], side="left")
            times = np.diff(np.minimum(self._tp[first : last + 1], stop), prepend=start)
            bins = np.repeat(np.arange(first, last + 1), times)
            one = np.ones_like(tp)
            yield OperatingPoints(self._thresholds[bins], tp, self._fp[bins], one, one - 1, *self._totals)


def _pairs(counts: npt.NDArray[np.integer], odd: int) -> npt.NDArray[np.integer]:
    """Join bins in pairs; ``odd`` is 1 if the first bin is the second one of its pair."""
    joined = np.zeros((len(counts) + odd + 1) // 2, counts.dtype)
    even = counts[odd::2]  # the first of their pairs
    joined[odd : odd + len(even)] = even
    second = counts[1 - odd :: 2]
    joined[: len(second)] += second
    return joined


def _shift(lowest: int, highest: int) -> int:
    shift = max(0, (highest - lowest).bit_length() - BINS.bit_length())
    while _bins(lowest, highest, shift) > BINS:
        shift += 1
    return shift


def _bins(lowest: int, highest: int, shift: int | None = None) -> int:
    shift = _shift(lowest, highest) if shift is None else shift
    return (highest >> shift) - (lowest >> shift) + 1
