"""The bootstrap over frames: exact counts, scipy's intervals, coverage, the shortcut's error, and what is refused."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics
from anomaly.metrics.bootstrap import DegenerateBootstrapWarning, FrameTable, bootstrap, holm, paired_bootstrap
from anomaly.metrics.functional.resampling import weighted_metrics


def frame(random, size=(12, 20), share=0.2):
    label = random.choice([0, 1, 255], size, p=[0.9 - share, share, 0.1]).astype(np.uint8)
    score = random.normal(size=size) * 40 + 200 + random.normal() * 15 + (label == 1) * 50
    return score.astype(np.float32), label


def on_grid(score, step):
    """Scores of few values: there are fewer thresholds, so that many draws take little time."""
    return (np.round(score / step) * step if step else score).astype(np.float32)


def made(count, seed=0, *, name="score", noise=0.0, grid=None, **settings):
    """Metrics of frames that are the same for one seed, with more noise for another method."""
    random, more = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    frames, metrics = {}, PixelMetrics(name)
    for index in range(count):
        score, label = frame(random, **settings)
        score = on_grid(score + noise * more.normal(size=score.shape), grid)
        frames[f"frame{index:03}"] = (score, label)
        metrics.update(f"frame{index:03}", score, label)
    return metrics, list(frames.values())


def by_sklearn(frames):
    """Values of frames, some more than once, from all their pixels."""
    score = np.concatenate([score[label < 2] for score, label in frames])
    label = np.concatenate([label[label < 2] for _, label in frames])
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(label, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return {
        "auroc": roc_auc_score(label, score),
        "ap": average_precision_score(label, score),
        "fpr95": fpr[np.argmax(tpr >= 0.95)],
        "best_f1": f1.max(),
        "recall_at_fpr05": tpr[fpr <= 0.05].max(),
    }


@pytest.mark.parametrize("grid", [None, 10.0, 500.0])
def test_a_small_dataset_is_recomputed_exactly(grid):
    metrics, frames = made(6, grid=grid)
    table = FrameTable.of(metrics)
    weights = np.array([[1, 1, 1, 1, 1, 1], [6, 0, 0, 0, 0, 0], [0, 2, 0, 3, 0, 1]])
    found = weighted_metrics(table.counts, weights, metrics.levels)
    for row, times in enumerate(weights):
        drawn = [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]
        expected = by_sklearn(drawn)
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.002])
@pytest.mark.parametrize("grid", [None, 0.25])
def test_error_of_the_shared_thresholds(share, grid):
    """4000 thresholds stand for half a million pixels: values are within 1e-4, FPR and recall within 5e-4."""
    metrics, frames = made(8, size=(200, 320), share=share, grid=grid)
    table = FrameTable.of(metrics)
    assert len(table.counts.thresholds) < 10_000
    random = np.random.default_rng(3)
    weights = random.multinomial(8, [1 / 8] * 8, size=4)
    found = weighted_metrics(table.counts, weights, metrics.levels)
    for row, times in enumerate(weights):
        drawn = [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]
        for name, expected in by_sklearn(drawn).items():
            steps = name in ("fpr95", "recall_at_fpr05")  # they jump by one anomaly pixel where these are few
            assert found[name][row] == pytest.approx(expected, abs=5e-4 if steps else 1e-4), name


def auroc_of_draws(frames):
    """AUROC of drawn frames from who wins between every two frames' pixels; takes indices (..., F)."""
    wins = np.array([[wins_between(a, k) for k in frames] for a in frames])
    anomaly, known = (np.array([(label == value).sum() for _, label in frames]) for value in (1, 0))

    def statistic(indices, axis=-1):
        indices = np.moveaxis(np.asarray(indices), axis, -1)
        won = wins[indices[..., :, None], indices[..., None, :]].sum((-1, -2))
        return won / (anomaly[indices].sum(-1) * known[indices].sum(-1))

    return statistic


def wins_between(a, k):
    anomaly, known = a[0][a[1] == 1], k[0][k[1] == 0]
    return (anomaly[:, None] > known).sum() + (anomaly[:, None] == known).sum() / 2


def scipy_interval(statistic, frames, method):
    return scipy.stats.bootstrap(
        (np.arange(frames),), statistic, n_resamples=20_000, method=method, rng=np.random.default_rng(5), batch=1000
    ).confidence_interval


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_intervals_are_those_of_scipy(method):
    random, metrics = np.random.default_rng(2), PixelMetrics()
    frames = [frame(random, share=0.5 if index == 3 else 0.03) for index in range(8)]
    frames[3] = (frames[3][0] - np.float32(60), frames[3][1])  # many anomalies, low scores: a biased, skewed value
    frames = [(on_grid(score, 4), label) for score, label in frames]
    for index, each in enumerate(frames):
        metrics.update(f"{index:02}", *each)
    expected = scipy_interval(auroc_of_draws(frames), 8, method)
    found = bootstrap(FrameTable.of(metrics), replicates=20_000, method=method.lower())["auroc"]
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02 * width)
    assert found.method == method.lower()


def test_paired_difference_is_that_of_scipy_and_its_p_value_inverts_the_interval():
    (good, good_frames), (poor, poor_frames) = made(20, name="good", grid=4), made(20, name="poor", noise=60, grid=4)
    statistics = auroc_of_draws(good_frames), auroc_of_draws(poor_frames)
    expected = scipy_interval(lambda i, axis=-1: statistics[0](i, axis) - statistics[1](i, axis), 20, "BCa")
    found = paired_bootstrap(FrameTable.of(good), FrameTable.of(poor), replicates=4000, method="bca")["auroc"]
    width = expected.high - expected.low
    assert found.difference == pytest.approx(good.compute()["auroc"] - poor.compute()["auroc"], abs=1e-12)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=0.08 * width)
    assert found.p_value == pytest.approx(2 / 4001)  # the least there is

    other, _ = made(20, name="other", noise=4, grid=4)
    tables = FrameTable.of(good), FrameTable.of(other)
    for method in ("bca", "percentile"):
        p_value = paired_bootstrap(*tables, method=method)["auroc"].p_value
        assert 0.01 < p_value < 0.9
        for level, holds_zero in ((1 - 1.1 * p_value, False), (1 - 0.9 * p_value, True)):
            interval = paired_bootstrap(*tables, level=level)["auroc"].interval
            assert (interval.low <= 0 <= interval.high) == holds_zero


def test_swapping_the_methods_turns_the_difference_round():
    a, b = FrameTable.of(made(12, name="a", grid=4)[0]), FrameTable.of(made(12, name="b", noise=20, grid=4)[0])
    for name, found in paired_bootstrap(a, b).items():
        back = paired_bootstrap(b, a)[name]
        assert back.difference == -found.difference
        assert (back.interval.low, back.interval.high) == pytest.approx((-found.interval.high, -found.interval.low))
        assert back.p_value == pytest.approx(found.p_value)


def test_a_method_does_not_differ_from_itself():
    table = FrameTable.of(made(5)[0])
    for found in paired_bootstrap(table, table).values():
        assert (found.difference, found.interval.low, found.interval.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.slow
def test_coverage_is_near_the_level():
    """Of 150 datasets of 40 frames, about 95 % (a little less) have the AUROC of their source in their interval."""
    source = {"size": (6, 10), "grid": 10}
    truth = made(4000, seed=99, **source)[0].compute()["auroc"]
    inside = 0
    for seed in range(150):
        interval = bootstrap(FrameTable.of(made(40, seed=1000 + 2 * seed, **source)[0]), replicates=500)["auroc"]
        inside += interval.low <= truth <= interval.high
    assert 0.90 <= inside / 150 <= 0.98


@pytest.mark.slow
def test_p_values_of_equal_methods_are_even():
    p_values = []
    for seed in range(150):
        random, pair = np.random.default_rng(seed), (PixelMetrics("a"), PixelMetrics("b"))
        for index, (score, label) in enumerate(made(30, 2 * seed, size=(6, 10))[1]):
            for metrics in pair:
                metrics.update(str(index), on_grid(score + 20 * random.normal(size=score.shape), 10), label)
        p_values.append(paired_bootstrap(*map(FrameTable.of, pair), replicates=500)["auroc"].p_value)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p_values) < 0.05) < 0.12


def test_same_seed_same_interval():
    table = FrameTable.of(made(8)[0])
    assert bootstrap(table, seed=4) == bootstrap(table, seed=4)
    assert bootstrap(table, seed=4) != bootstrap(table, seed=5)


def test_interval_holds_the_exact_value_and_is_wider_for_a_higher_level():
    metrics, _ = made(15)
    result = metrics.compute()
    wide, narrow = (bootstrap(FrameTable.of(metrics, result), level=level) for level in (0.99, 0.5))
    assert wide.keys() == {"auroc", "ap", "fpr95", "best_f1", "recall_at_fpr05"}
    for name, interval in wide.items():
        assert interval.low < narrow[name].low < result[name] < narrow[name].high < interval.high


def test_frames_that_are_all_alike_have_an_interval_of_no_width_at_the_exact_value():
    metrics, (each, *_) = PixelMetrics(), made(1, size=(200, 320))[1]
    for name in "abc":
        metrics.update(name, *each)
    table = FrameTable.of(metrics)
    near = weighted_metrics(table.counts, np.ones((1, 3), np.int64), metrics.levels)["ap"][0]
    assert near != table.values["ap"]
    with pytest.warns(DegenerateBootstrapWarning, match="percentile intervals"):
        found = bootstrap(table)["ap"]
    assert (found.low, found.high) == pytest.approx((table.values["ap"], table.values["ap"]), abs=1e-12)


def test_f1_at_a_threshold_has_an_interval():
    metrics = PixelMetrics(threshold=230.123)
    for index, (score, label) in enumerate(made(15)[1]):
        metrics.update(str(index), score, label)
    found, result = bootstrap(FrameTable.of(metrics)), metrics.compute()
    for name in ("f1", "iou"):
        assert found[name].low < result[name] < found[name].high


def test_draws_without_an_anomaly_are_counted_and_told():
    random, metrics = np.random.default_rng(0), PixelMetrics("few")
    for index in range(10):
        score, label = frame(random)
        metrics.update(str(index), score, np.where(label == 1, 1 if index == 0 else 0, label).astype(np.uint8))
    with pytest.warns(DegenerateBootstrapWarning, match=r"few: \d+ of 2000 draws"):
        interval = bootstrap(FrameTable.of(metrics))["ap"]
    assert interval.undefined == pytest.approx(2000 * 0.9**10, abs=120)
    assert interval.method == "percentile"  # without the first frame there is no value, so no acceleration
    assert interval.low < interval.high


def test_one_frame_has_no_interval():
    with pytest.warns(DegenerateBootstrapWarning, match="at least two frames"):
        interval = bootstrap(FrameTable.of(made(1)[0]))["auroc"]
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_constant_scores_have_an_interval_of_no_width():
    metrics = PixelMetrics()
    for index, (score, label) in enumerate(made(6)[1]):
        metrics.update(str(index), np.zeros_like(score), label)
    with pytest.warns(DegenerateBootstrapWarning, match="percentile intervals"):
        found = bootstrap(FrameTable.of(metrics))
    assert (found["auroc"].low, found["auroc"].high, found["auroc"].method) == (0.5, 0.5, "percentile")
    assert found["ap"].low < metrics.compute()["ap"] < found["ap"].high  # the share of anomaly pixels differs


def test_refuses_what_cannot_be_paired():
    a = FrameTable.of(made(4, name="a")[0])
    with pytest.raises(InputError, match="1 frames, such as 'frame004', belong to only one"):
        paired_bootstrap(a, FrameTable.of(made(5, name="b")[0]))
    with pytest.raises(InputError, match="frame 'frame000' has"):
        paired_bootstrap(a, FrameTable.of(made(4, seed=1, name="b")[0]))
    other = PixelMetrics(tpr=0.9)
    for index, (score, label) in enumerate(made(4)[1]):
        other.update(f"frame{index:03}", score, label)
    with pytest.raises(InputError, match=r"cannot compare \(dataset, tpr, fpr\)"):
        paired_bootstrap(a, FrameTable.of(other))


@pytest.mark.filterwarnings("ignore::anomaly.metrics.UndefinedMetricWarning")
def test_refuses_bad_arguments():
    with pytest.raises(InputError, match="found none"):
        FrameTable.of(PixelMetrics())
    with pytest.raises(InputError, match="binned"):
        FrameTable.of(PixelMetrics(mode="binned"))
    table = FrameTable.of(made(2)[0])
    for fault in ({"replicates": 0}, {"level": 1.0}, {"level": 0.0}, {"method": "normal"}):
        with pytest.raises(InputError, match=next(iter(fault))):
            bootstrap(table, **fault)


def test_holm_by_hand():
    """Holm 1979: of 4, the smallest times 4, the next times 3, and none below the one before."""
    found = holm({"c": 0.03, "a": 0.01, "d": 0.6, "b": 0.011, "gone": math.nan})
    assert [found[name] for name in "abcd"] == pytest.approx([0.04, 0.04, 0.06, 0.6])
    assert math.isnan(found["gone"])
    assert list(found) == ["c", "a", "d", "b", "gone"]
    assert holm({"a": 0.9, "b": 0.8})["a"] == 1.0
    with pytest.raises(InputError, match="p-value of 'a'"):
        holm({"a": 1.5})
