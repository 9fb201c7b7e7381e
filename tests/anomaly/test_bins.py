"""Bins bound every figure, whatever the scores, and add up to the same in any order."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics, binned
from anomaly.metrics.functional import bins
from anomaly.metrics.functional.bins import BinnedCurve, bin_keys, from_bin_keys, histogram

finite = st.floats(allow_nan=False, allow_infinity=False)
RANKING = ("auroc", "ap", "fpr95", "best_f1", "recall_at_fpr05")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(bins, "BINS", 16)


@settings(max_examples=200, deadline=None)
@given(st.lists(finite, min_size=1, max_size=30))
def test_keys_never_reverse_an_order(values):
    scores = np.sort(np.array(values))
    keys = bin_keys(scores)
    assert (np.diff(keys) >= 0).all()
    assert (bin_keys(-scores) == -keys).all()
    size = np.maximum(np.abs(scores), 2.0**-10)
    assert (np.abs(from_bin_keys(keys) - scores) <= 1e-15 * size).all()


def many_kinds(seed, count=4):
    """Frames of all kinds of scores: spreads from denormal to huge, outliers, ties, one class only."""
    random = np.random.default_rng(seed)
    level, spread = random.choice([0, 1, -300, 1e6]), 10.0 ** random.integers(-12, 4)
    for index in range(count):
        label = random.choice([0, 0, 0, 1, 255], (9, 11)).astype(np.uint8)
        score = level + spread * random.normal(label == 1, 1)
        if random.random() < 0.3:
            score = score.round(2)
        if random.random() < 0.2:
            score[random.integers(9), random.integers(11)] = random.choice([1e30, -1e30, 5e-324, 0])
        if random.random() < 0.2:
            label[label == random.integers(2)] = 255
        yield f"{seed}/{index}", score.astype(random.choice([np.float32, np.float64])), label


def filled(frames, **settings):
    metrics = PixelMetrics(**settings)
    for frame in frames:
        metrics.update(*frame)
    return metrics


def compute(metrics):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metrics.compute()


@pytest.mark.parametrize("number", [16, 300])
@pytest.mark.parametrize("seed", range(60))
def test_intervals_hold_the_exact_figures(seed, number, monkeypatch):
    monkeypatch.setattr(bins, "BINS", number)
    monkeypatch.setattr(bins, "PART", 7)
    exact, bounded = (compute(filled(many_kinds(seed), mode=mode, threshold=0.5)) for mode in ("exact", "binned"))
    assert bounded.values.keys() == exact.values.keys()
    for name in exact.values.keys() - {"best_f1_threshold"}:
        low, high = bounded.bounds[name]
        assert low <= exact[name] <= high or np.isnan([low, high, exact[name]]).all(), name
        assert low <= bounded[name] <= high or np.isnan(bounded[name]), name
    assert bounded["f1"] == exact["f1"] or np.isnan(exact["f1"])
    assert bounded.undefined_frames == exact.undefined_frames
    if not np.isnan(exact["ap"]):
        tp, fp = filled(many_kinds(seed)).counts_at(np.array([bounded["best_f1_threshold"]]))
        at_edge = 2 * tp[0] / (tp[0] + fp[0] + exact.anomaly_pixels)
        assert at_edge == pytest.approx(bounded["best_f1"], abs=0.05)  # up to a score that rounding moves over the edge


def test_intervals_are_narrow():
    random = np.random.default_rng(0)
    for make in (
        lambda x: 200 + 30 * x,
        lambda x: -5 * x,
        lambda x: 1 / (1 + np.exp(6 - 3 * x)),
        lambda x: 1e6 + 1e3 * x,
    ):
        label = (random.random((400, 500)) < 0.1).astype(np.uint8)
        score = make(random.normal(1.5 * label, 1)).astype(np.float32)
        result = filled([("a", score, label)], mode="binned").compute()
        for name in RANKING:
            low, high = result.bounds[name]
            assert high - low < 1e-4, name


@pytest.mark.parametrize("seed", range(40))
def test_histograms_add_up_in_any_order(seed, few):
    parts = []
    for _, score, label in many_kinds(seed, 5):
        parts.append((score[label == 0].astype(np.float64), score[label == 1].astype(np.float64)))
    first, *rest = (each for each in (histogram(*part) for part in parts) if each is not None)
    sums = [sum(rest, first), sum(rest[::-1], first + first)]
    whole = histogram(*(np.concatenate([part[i] for part in parts]) for i in (0, 1)))
    assert (sums[0].lowest, sums[0].highest) == (whole.lowest, whole.highest)
    assert len(whole.known) <= 16
    np.testing.assert_array_equal(sums[0].known, whole.known)
    np.testing.assert_array_equal(sums[0].anomaly, whole.anomaly)
    assert sums[1].known.sum() == whole.known.sum() + first.known.sum()


def test_scores_outside_the_first_range_are_counted(few):
    total = histogram(np.array([1.0, 2.0]), np.array([1.5])) + histogram(np.array([-1e30]), np.array([1e30]))
    assert total.known.sum() == 3
    assert total.anomaly.tolist()[-1] == 1
    assert total.known.tolist()[0] == 1


def test_best_and_worst_orders_of_a_bin(few):
    """One bin holds everything: anomaly scores may be above or below all known ones."""
    counts = histogram(np.full(3, 2.0), np.full(2, 2.0))
    (best,), worst = BinnedCurve(counts).best(), list(BinnedCurve(counts).worst())
    assert (best.tp.tolist(), best.fp.tolist()) == ([2], [0])
    assert ([part.tp.tolist() for part in worst], [part.fp.tolist() for part in worst]) == ([[1, 2]], [[3, 3]])


def test_memory_stays_constant(monkeypatch):
    monkeypatch.setattr(binned, "OPEN", 10**5)
    monkeypatch.setattr(bins, "BINS", 2**12)
    metrics, random = PixelMetrics(mode="binned"), np.random.default_rng(0)
    label = (random.random((200, 300)) < 0.1).astype(np.uint8)
    peaks = []
    for part in range(2):
        tracemalloc.start()
        for index in range(30):
            metrics.update(f"{part}/{index}", random.normal(size=(200, 300)).astype(np.float32), label)
        peaks.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert peaks[1] < 4e5  # bytes that 30 more frames keep: their figures, not their 7 MB of scores


def test_a_frame_that_cannot_be_told_apart_any_more_is_refused(monkeypatch):
    frames = list(many_kinds(3, 6))
    whole = compute(filled(frames, mode="binned"))
    parts = [filled(frames[:4], mode="binned"), filled(frames[2:], mode="binned")]
    parts[0].merge(parts[1])
    assert compute(parts[0]) == whole  # the last frames are kept apart
    monkeypatch.setattr(binned, "OPEN", 1)
    parts = [filled(frames[:4], mode="binned"), filled(frames[2:], mode="binned")]
    before = compute(parts[0])
    with pytest.raises(InputError, match=r"frame '3/2' \(2 in all\) is in both parts"):
        parts[0].merge(parts[1])
    np.testing.assert_equal(compute(parts[0]).values, before.values)
    half = filled(frames[4:], mode="binned")
    parts[0].merge(half)
    assert compute(parts[0]).values == whole.values
    monkeypatch.undo()
    again = filled(frames[2:], mode="binned")
    again.merge(parts[0])  # what is apart on one side is left out there
    assert compute(again).values == whole.values


def test_what_needs_every_score_is_refused():
    metrics = filled(many_kinds(0), mode="binned")
    for call in (lambda: list(metrics.frames()), lambda: metrics.counts_at(np.zeros(1)), lambda: list(metrics.curve())):
        with pytest.raises(InputError, match="binned mode keeps only counts"):
            call()
