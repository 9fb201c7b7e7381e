"""Between which figures a score that knows nothing lies: bounds that chance leaves once in a million times at most."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

CHANCE = 1e-6
"""How often a score that knows nothing leaves the bounds of its AUROC, and of its AP, at most."""
_DENSE = 500  # ranks that are bounded one by one; above, they lie apart by a share of 1 / _DENSE

Array = npt.NDArray[np.float64]


def auroc_range(known: int, anomaly: int) -> tuple[float, float]:
    """Bounds of the AUROC of a score that knows nothing, ties counting half.

    About its mean the count of pairs in order (Mann & Whitney, 1947) has a moment generating function below that of the
    normal distribution of its variance: the product over i from 1 to n of ``sinh((m + i) t / 2) i / (sinh(i t / 2) (m +
    i))``, where ``log(sinh(x) / x) - x^2 / 6`` falls for x > 0. So AUROC is further than c of its deviations
    ``sqrt((N + 1) / 12 n m)`` from 1/2 with a probability of at most ``2 exp(-c^2 / 2)``, however few the anomalies.
    With ties it is a mean over the orders in which they may be broken, and its moments are smaller (Jensen).

    Args:
        known: m, the number of known pixels, 1 or more.
        anomaly: n, that of anomaly pixels, 1 or more.
    """
    away = math.sqrt(2 * math.log(2 / CHANCE) * (known + anomaly + 1) / (12 * known * anomaly))
    return max(0.0, 0.5 - away), min(1.0, 0.5 + away)


def ap_range(known: int, anomaly: int) -> tuple[float, float]:
    """Bounds of the AP of a score that knows nothing, with any ties; AP has a heavy upper tail where anomalies are few.

    AP is the mean over anomalies of the precision where each is found, ``i / R_i`` with the rank R_i of the i-th.
    That i or more of r pixels are anomalies, or i or fewer, has a probability of at most ``exp(-r KL(i/r || n/N))``
    (Chernoff; Hoeffding, 1963, without replacement), from which ranks follow that R_i leaves with a probability of at
    most ``CHANCE / 2K`` in each direction. This is done for K numbers i; the ranks of others lie between those of
    these. Pixels of one score are found together, with the precision at the last of them: for anomaly i at most the
    largest bound of ``j / R_j``, and at least the smallest of ``j / (R_(j+1) - 1)``, over j of i or more.

    Args:
        known: m, the number of known pixels, 1 or more.
        anomaly: n, that of anomaly pixels, 1 or more.
    """
    m, n = known, anomaly
    starts = _places(n)
    stops = np.append(starts[1:], n + 1)  # anomalies starts to stops - 1, from 1, are bounded together
    level = math.log(2 * len(starts) / CHANCE)
    counts = (stops - starts).astype(float)
    first, after = starts.astype(float), stops.astype(float)
    least = _least_rank(first, m, n, level)  # of anomaly ``first``; the i-th has one of least + (i - first) or more
    highest = (after - 1) / (least + after - 1 - first)
    most = np.append(_greatest_rank(first[1:], m, n, level), m + n + 1)  # of anomaly ``after``
    lowest = first / (most - (after - first))
    upper = np.maximum.accumulate(highest[::-1])[::-1]
    lower = np.minimum.accumulate(lowest[::-1])[::-1]
    return float(counts @ lower) / n, min(1.0, float(counts @ upper) / n)


def _places(n: int) -> npt.NDArray[np.int64]:
    """Numbers from 1 to n, all of the first and ever fewer."""
    dense = np.arange(1, min(n, _DENSE) + 1)
    if n <= _DENSE:
        return dense
    sparse = _DENSE * (1 + 1 / _DENSE) ** np.arange(1, math.ceil(math.log(n / _DENSE) * (_DENSE + 1)) + 1)
    return np.unique(np.concatenate([dense, np.floor(sparse[sparse <= n]).astype(np.int64)]))


def _least_rank(i: Array, m: int, n: int, level: float) -> Array:
    """The least rank of anomaly i that chance allows: at the rank before, i anomalies are too many."""
    found = _last(lambda r: _exponent(i, r, m, n) >= level, i - 1, np.floor(i * (m + n) / n))
    return np.maximum(found + 1, i)


def _greatest_rank(i: Array, m: int, n: int, level: float) -> Array:
    """The greatest rank of anomaly i that chance allows: there, i - 1 anomalies are no more too few before it."""
    enough = _last(lambda r: _exponent(i - 1, r, m, n) < level, np.ceil((i - 1) * (m + n) / n), m + i)
    return np.minimum(enough + 1, m + i)


def _exponent(i: Array, r: Array, m: int, n: int) -> Array:
    """``r KL(i/r || n/N)``, which bounds minus the logarithm of how likely i or more, or i or fewer, are among r."""
    total = m + n
    rest = r - i
    with np.errstate(divide="ignore", invalid="ignore"):
        anomalies = np.where(i > 0, i * np.log(i * total / (r * n)), 0.0)
        others = np.where(rest > 0, rest * np.log(rest * total / (r * m)), 0.0)
    return anomalies + others


def _last(holds: Callable[[Array], npt.NDArray[np.bool_]], low: Array, high: Array) -> Array:
    """The last whole number from ``low`` to ``high`` up to which a condition holds; it does at ``low``."""
    high = np.maximum(high, low)
    while (open_ := high > low).any():
        middle = np.ceil((low + high) / 2)
        good = holds(middle)
        low = np.where(open_ & good, middle, low)
        high = np.where(open_ & ~good, middle - 1, high)
    return low
