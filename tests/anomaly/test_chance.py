"""Bounds of scores that know nothing: against exact distributions, and against 10,000 of such scores."""

import math
import time
import warnings

import numpy as np
import pytest
from scipy.stats import hypergeom, mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly.evaluation import chance
from anomaly.evaluation.chance import ap_range, auroc_range

SEEDS = 10_000


def draws(pixels, anomalies, seed=0):
    """Ranks from 1 of the anomalies of ``SEEDS`` scores that know nothing, ascending. Shape: ``(SEEDS, anomalies)``."""
    random = np.random.default_rng(seed)
    if pixels <= 2000:
        return np.sort(random.random((SEEDS, pixels)).argpartition(anomalies - 1, axis=1)[:, :anomalies] + 1, axis=1)
    ranks = np.sort(random.integers(1, pixels + 1, (SEEDS, anomalies)), axis=1)
    while (twice := (np.diff(ranks, axis=1) == 0).any(1)).any():
        ranks[twice] = np.sort(random.integers(1, pixels + 1, (twice.sum(), anomalies)), axis=1)
    return ranks


def auroc_of(ranks, pixels):
    """The share of pairs in order: known pixels after each anomaly. Shape: ``(draws, n)`` -> ``(draws,)``."""
    count = ranks.shape[1]
    after = (pixels - ranks) - np.arange(count - 1, -1, -1)
    return after.mean(1) / (pixels - count)


SETS = [(1000, 5), (100_000, 5), (1_000_000, 5), (1000, 20), (1_000_000, 20), (1000, 100), (1_000_000, 100)]
SETS += [(200, 100), (300, 290), (100, 1), (10, 9), (2, 1), (1000, 500)]


@pytest.mark.parametrize(("pixels", "anomalies"), SETS)
def test_ten_thousand_scores_that_know_nothing(pixels, anomalies):
    ranks = draws(pixels, anomalies)
    low, high = ap_range(pixels - anomalies, anomalies)
    ap = (np.arange(1, anomalies + 1) / ranks).mean(1)
    assert ((ap < low) | (ap > high)).sum() <= 1
    assert low <= anomalies / pixels <= high
    low, high = auroc_range(pixels - anomalies, anomalies)
    auroc = auroc_of(ranks, pixels)
    assert ((auroc < low) | (auroc > high)).sum() <= 1
    label = np.zeros(pixels)
    label[ranks[0] - 1] = 1  # the formulas of this test, against scikit-learn
    score = -np.arange(pixels)
    assert ap[0] == pytest.approx(average_precision_score(label, score))
    assert auroc[0] == pytest.approx(roc_auc_score(label, score))


@pytest.mark.parametrize("levels", [2, 20, 256])
@pytest.mark.parametrize(("pixels", "anomalies"), [(1000, 5), (1000, 20), (2000, 100), (300, 150), (300, 290)])
def test_ten_thousand_times_shuffled_labels_of_a_score_with_ties(pixels, anomalies, levels):
    """Pixels of one brightness count together: precision is that at the last of them."""
    random = np.random.default_rng(1)
    brightness = np.sort(random.integers(0, levels, pixels) ** 2 // levels)[::-1]
    ends = np.searchsorted(-brightness, -brightness, side="right")
    ranks = draws(pixels, anomalies)
    of_level = np.searchsorted(np.unique(ends), ends)  # the number of each pixel's group
    flat = of_level[ranks - 1] + of_level.max() * np.arange(SEEDS)[:, None] + np.arange(SEEDS)[:, None]
    hits = np.bincount(flat.ravel(), minlength=SEEDS * (of_level.max() + 1)).reshape(SEEDS, -1)
    precision = hits.cumsum(1) / np.unique(ends)
    ap = (hits * precision).sum(1) / anomalies
    low, high = ap_range(pixels - anomalies, anomalies)
    assert ((ap < low) | (ap > high)).sum() <= 1
    label = np.zeros(pixels)
    label[ranks[0] - 1] = 1
    assert ap[0] == pytest.approx(average_precision_score(label, brightness))
    known = np.diff(np.unique(ends), prepend=0) - hits
    below = (pixels - anomalies) - known.cumsum(1)
    auroc = (hits * (below + known / 2)).sum(1) / (anomalies * (pixels - anomalies))
    assert auroc[0] == pytest.approx(roc_auc_score(label, brightness))
    low, high = auroc_range(pixels - anomalies, anomalies)
    assert ((auroc < low) | (auroc > high)).sum() <= 1


@pytest.mark.parametrize(("known", "anomaly"), [(30, 5), (5, 30), (200, 8), (40, 40), (8, 1), (3, 3)])
def test_auroc_leaves_its_bounds_as_seldom_as_is_claimed(known, anomaly):
    """By the exact distribution of the rank sum."""
    low, high = auroc_range(known, anomaly)
    assert low + high == pytest.approx(1)
    pairs = known * anomaly
    outside = math.floor(low * pairs) if low * pairs % 1 else low * pairs - 1  # the largest count below the bound
    probability = count_of_pairs(known, anomaly)
    assert probability.sum() == pytest.approx(1)
    assert 2 * probability[: int(outside) + 1].sum() <= chance.CHANCE
    exact = mannwhitneyu(np.arange(known), np.full(anomaly, 0.5), method="exact", alternative="less").pvalue
    assert probability[: anomaly * (known - 1) + 1].sum() == pytest.approx(exact)


def count_of_pairs(m, n):
    """Probability of each number of pairs in order, by Mann and Whitney's recursion. Shape: ``(m n + 1,)``."""
    table = {}

    def ways(i, j):
        if i == 0 or j == 0:
            return np.ones(1)
        if (i, j) not in table:
            first, second = ways(i - 1, j), ways(i, j - 1)
            found = np.zeros(i * j + 1)
            found[j : j + len(first)] += first * i / (i + j)
            found[: len(second)] += second * j / (i + j)
            table[i, j] = found
        return table[i, j]

    return ways(m, n)


@pytest.mark.parametrize(("known", "anomaly"), [(995, 5), (999_900, 100), (10**6, 10**5), (100, 900), (50, 50)])
def test_ranks_are_left_as_seldom_as_is_claimed_and_are_no_wider_than_need_be(known, anomaly):
    """By the exact hypergeometric distribution: less often than claimed, and not by many orders of magnitude."""
    level, total = math.log(1e8), known + anomaly
    i = np.unique(np.geomspace(1, anomaly, 30).astype(int)).astype(float)
    least = chance._least_rank(i, known, anomaly, level)
    before = hypergeom.sf(i - 1, total, anomaly, least - 1)  # i anomalies or more before the least rank
    assert (before <= 1e-8).all()
    first = (i <= anomaly / 10) & (least <= total / 10)  # where drawing is much as with replacement
    assert (hypergeom.sf(i - 1, total, anomaly, least)[first] > 1e-11).all()
    most = chance._greatest_rank(i, known, anomaly, level)
    after = hypergeom.cdf(i - 1, total, anomaly, most)  # the i-th comes after the greatest rank
    assert (after <= 1e-8).all()


def test_any_number_of_pixels_takes_milliseconds():
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for known, anomaly in [(10**9, 10**9), (10**11, 10**9), (1, 10**9), (10**9, 1), (1, 1)]:
            low, high = ap_range(known, anomaly)
            share = anomaly / (known + anomaly)
            assert low <= share <= high <= 1
            assert min(known, anomaly) == 1 or high / low < 1.01
    assert time.process_time() - start < 2


def test_bounds_close_in_as_anomalies_become_more():
    widths = [np.diff(ap_range(99 * n, n))[0] for n in (10, 100, 1000, 10**4, 10**5, 10**6)]
    assert (np.diff(widths) < 0).all()
    assert widths[-1] < 0.04 * 0.01
