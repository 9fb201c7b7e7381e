"""Bounds of AUROC and AP for an uninformative score, which chance exceeds at most once in a million times."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

CHANCE = 1e-6
"""Largest probability that the AUROC, or the AP, of an uninformative score lies outside its bounds."""
_DENSE = 500  # ranks that are bounded one by one; above, consecutive ranks differ by a factor of 1 + 1 / _DENSE

Array = npt.NDArray[np.float64]


def auroc_range(known: int, anomaly: int) -> tuple[float, float]:
    """Bounds of the AUROC of an uninformative score; ties count half.

    The centred number of correctly ordered pairs (Mann & Whitney, 1947) has a moment generating function below that of
    a normal distribution with the same variance: it is the product over i from 1 to n of ``sinh((m + i) t / 2) i /
    (sinh(i t / 2) (m + i))``, and ``log(sinh(x) / x) - x^2 / 6`` decreases for x > 0. Hence the AUROC differs from 1/2
    by more than c standard deviations ``sqrt((N + 1) / 12 n m)`` with a probability of at most ``2 exp(-c^2 / 2)``, for
    any number of anomalies. With ties, the AUROC is the mean over all ways to break them, and its moments are smaller
    (Jensen).

    Args:
        known: m, the number of known pixels, 1 or more.
        anomaly: n, the number of anomalous pixels, 1 or more.

    Returns:
        The lower and the upper bound.
    """
    away = math.sqrt(2 * math.log(2 / CHANCE) * (known + anomaly + 1) / (12 * known * anomaly))
    return max(0.0, 0.5 - away), min(1.0, 0.5 + away)


def ap_range(known: int, anomaly: int) -> tuple[float, float]:
    """Bounds of the AP of an uninformative score, with any ties.

    The distribution of AP has a heavy upper tail if there are few anomalies. AP is the mean over anomalies of the
    precision at their rank, ``i / R_i``, where R_i is the rank of the i-th anomaly. The probability that r pixels
    contain i or more anomalies (or i or fewer) is at most ``exp(-r KL(i/r || n/N))`` (Chernoff; Hoeffding, 1963,
    without replacement). This gives bounds that each R_i exceeds with a probability of at most ``CHANCE / 2K`` in each
    direction. They are computed for K values of i; other ranks lie between these. Pixels of equal score are found
    together, at the precision of the last of them: for anomaly i it is at most the largest bound of ``j / R_j``, and at
    least the smallest of ``j / (R_(j+1) - 1)``, over all j of at least i.

    Args:
        known: m, the number of known pixels, 1 or more.
        anomaly: n, the number of anomalous pixels, 1 or more.

    Returns:
        The lower and the upper bound.
    """
    m, n = known, anomaly
    starts = _places(n)
    stops = np.append(starts[1:], n + 1)  # anomalies starts to stops - 1, from 1, are bounded together
    level = math.log(2 * len(starts) / CHANCE)
    counts = (stops - starts).astype(float)
    first, after = starts.astype(float), stops.astype(float)
    least = _least_rank(first, m, n, level)  # for anomaly ``first``; anomaly i has rank least + (i - first) or more
    highest = (after - 1) / (least + after - 1 - first)
    most = np.append(_greatest_rank(first[1:], m, n, level), m + n + 1)  # for anomaly ``after``
    lowest = first / (most - (after - first))
    upper = np.maximum.accumulate(highest[::-1])[::-1]
    lower = np.minimum.accumulate(lowest[::-1])[::-1]
    return float(counts @ lower) / n, min(1.0, float(counts @ upper) / n)


def _places(n: int) -> npt.NDArray[np.int64]:
    """Numbers from 1 to n: every one of the first ``_DENSE``, then increasingly sparse."""
    dense = np.arange(1, min(n, _DENSE) + 1)
    if n <= _DENSE:
        return dense
    sparse = _DENSE * (1 + 1 / _DENSE) ** np.arange(1, math.ceil(math.log(n / _DENSE) * (_DENSE + 1)) + 1)
    return np.unique(np.concatenate([dense, np.floor(sparse[sparse <= n]).astype(np.int64)]))


def _least_rank(i: Array, m: int, n: int, level: float) -> Array:
    """The smallest rank of anomaly i that chance allows: up to the rank before it, i anomalies would be too many."""
    found = _last(lambda r: _exponent(i, r, m, n) >= level, i - 1, np.floor(i * (m + n) / n))
    return np.maximum(found + 1, i)


def _greatest_rank(i: Array, m: int, n: int, level: float) -> Array:
    """The largest rank of anomaly i that chance allows: before it, i - 1 anomalies would be too few."""
    enough = _last(lambda r: _exponent(i - 1, r, m, n) < level, np.ceil((i - 1) * (m + n) / n), m + i)
    return np.minimum(enough + 1, m + i)


def _exponent(i: Array, r: Array, m: int, n: int) -> Array:
    """``r KL(i/r || n/N)``, a bound of -log P for i or more (or i or fewer) anomalies among r pixels."""
    total = m + n
    rest = r - i
    with np.errstate(divide="ignore", invalid="ignore"):
        anomalies = np.where(i > 0, i * np.log(i * total / (r * n)), 0.0)
        others = np.where(rest > 0, rest * np.log(rest * total / (r * m)), 0.0)
    return anomalies + others


def _last(holds: Callable[[Array], npt.NDArray[np.bool_]], low: Array, high: Array) -> Array:
    """The last integer from ``low`` to ``high`` up to which a condition holds; it holds at ``low``."""
    high = np.maximum(high, low)
    while (open_ := high > low).any():
        middle = np.ceil((low + high) / 2)
        good = holds(middle)
        low = np.where(open_ & good, middle, low)
        high = np.where(open_ & ~good, middle - 1, high)
    return low
