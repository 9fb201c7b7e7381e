import math
import tracemalloc
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics, UndefinedMetricWarning, exact
from anomaly.metrics.definitions import title_of
from anomaly.metrics.functional import bins
from tests import oracles
from tests.metric_tester import MetricTester

RANKING = ("auroc", "ap", "fpr95", "best_f1", "recall_at_fpr05")


class TestExact(MetricTester):
    ranking_values = (*RANKING, *(f"{name}_per_image" for name in RANKING))

    def make(self):
        return PixelMetrics("msp", threshold=0.25)

    def oracle(self, frames):
        return oracles.pixel_metrics(frames, threshold=0.25)


class TestSpilled(TestExact):
    """Every frame on disk, a block for every few scores."""

    @pytest.fixture(autouse=True, scope="class")
    def _small(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exact, "STRIDE", 2)
            patch.setattr(exact, "BLOCK", 6)
            patch.setattr(exact, "BLOCKS", 10**6)
            yield

    def make(self):
        return PixelMetrics("msp", threshold=0.25, memory_budget=1)


class TestBinned(TestExact):
    ranking_values = ()
    unbounded = frozenset({"best_f1_threshold"})

    @pytest.fixture(autouse=True, scope="class")
    def _fewer(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bins, "BINS", 2**10)
            yield

    def make(self):
        return PixelMetrics("msp", threshold=0.25, mode="binned")


class TestFewBins(TestBinned):
    """Bins that hold several scores, so that nothing is exact by chance."""

    @pytest.fixture(autouse=True, scope="class")
    def _fewer(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bins, "BINS", 8)
            patch.setattr(bins, "PART", 3)
            yield


def scene(seed, size=(30, 50)):
    random = np.random.default_rng(seed)
    label = random.choice([0, 0, 0, 0, 1, 255], size).astype(np.uint8)
    return random.normal(label == 1, 1, size).astype(np.float32), label


def test_pools_pixels_and_does_not_average_frames():
    metrics = PixelMetrics()
    scenes = [scene(seed, size) for seed, size in enumerate([(30, 50), (10, 10), (80, 40)])]
    for index, (score, label) in enumerate(scenes):
        metrics.update(str(index), score, label)
    score = np.concatenate([score[label != 255] for score, label in scenes])
    label = np.concatenate([label[label != 255] for _, label in scenes])
    result = metrics.compute()
    assert result["auroc"] == pytest.approx(roc_auc_score(label, score), abs=1e-9)
    assert result["ap"] == pytest.approx(average_precision_score(label, score), abs=1e-9)


def test_ignored_pixels_have_no_say():
    score, label = scene(0)
    spoiled = np.where(label == 255, 1e6, score).astype(np.float32)
    first, second = PixelMetrics(), PixelMetrics()
    first.update("a", score, label)
    second.update("a", spoiled, label)
    assert first.compute() == second.compute()


def test_views_count_as_their_copies():
    score, label = scene(1)
    first, second = PixelMetrics(), PixelMetrics()
    first.update("a", score.T[::-2, ::3], label.T[::-2, ::3])
    second.update("a", score.T[::-2, ::3].copy(), label.T[::-2, ::3].copy())
    assert first.compute() == second.compute()
    assert first.compute().known_pixels == int((label.T[::-2, ::3] == 0).sum())


def test_the_level_of_fpr_can_be_set():
    score, label = scene(2)
    metrics = PixelMetrics(tpr=0.5)
    metrics.update("a", score, label)
    expected = oracles.fpr_at_tpr(score[label == 0], score[label == 1], 0.5)
    assert metrics.compute()["fpr50"] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(InputError, match="tpr"):
        PixelMetrics(tpr=95)


def test_no_anomaly_is_nan_with_a_warning():
    metrics = PixelMetrics()
    metrics.update("a", np.zeros((2, 2), np.float32), np.array([[0, 0], [0, 255]], np.uint8))
    with pytest.warns(UndefinedMetricWarning, match="no anomaly pixels .255 means ignored"):
        result = metrics.compute()
    assert all(math.isnan(value) for value in (result["auroc"], result["ap"], result["fpr95"]))
    assert (result.frames, result.undefined_frames) == (1, ("a",))
    assert (result.known_pixels, result.anomaly_pixels, result.ignored_pixels) == (3, 0, 1)


def test_no_frame_is_nan_with_a_warning():
    with pytest.warns(UndefinedMetricWarning, match="no known and anomaly pixels"):
        assert math.isnan(PixelMetrics().compute()["ap"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_name_frame_and_score(value):
    score, label = scene(3)
    score[4, 5] = value
    with pytest.raises(InputError, match=r"frame 'street_7': score 'gmm_nll' has 1 NaN or infinite"):
        PixelMetrics("gmm_nll").update("street_7", score, label)


def test_other_sizes_and_labels_are_refused_and_leave_no_trace():
    score, label = scene(4)
    metrics = PixelMetrics("msp")
    with pytest.raises(InputError, match=r"frame 'a': score 'msp' has shape \(30, 49\)"):
        metrics.update("a", score[:, :-1], label)
    with pytest.raises(InputError, match=r"frame 'a': label values must be .* found \[2\]"):
        metrics.update("a", score, np.where(label == 1, 2, label))
    metrics.update("a", score, label)
    assert metrics.compute().frames == 1


def test_only_parts_of_one_evaluation_merge():
    with pytest.raises(InputError, match="pixel metrics with score 'msp' into pixel metrics with score 'energy'"):
        PixelMetrics("energy").merge(PixelMetrics("msp"))
    with pytest.raises(InputError, match=r"with tpr 0\.9 into"):
        PixelMetrics("msp").merge(PixelMetrics("msp", tpr=0.9))


def test_merge_leaves_the_other_as_it_was():
    first, second = PixelMetrics(), PixelMetrics()
    first.update("a", *scene(0))
    second.update("b", *scene(1))
    expected = second.compute()
    first.merge(second)
    first.update("c", *scene(2))
    assert second.compute() == expected
    assert first.compute().frames == 3


def test_results_are_frozen():
    metrics = PixelMetrics()
    metrics.update("a", *scene(0))
    with pytest.raises(FrozenInstanceError):
        metrics.compute().frames = 1


@pytest.mark.slow
def test_compute_needs_little_beside_the_scores():
    """Neither all scores once more, nor an index for each of them."""
    metrics = PixelMetrics()
    random = np.random.default_rng(0)
    label = np.zeros((1000, 2000), np.uint8)
    label[:50, :100] = 1
    for index in range(12):
        metrics.update(str(index), random.random((1000, 2000), np.float32), label)
    tracemalloc.start()
    metrics.compute()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * label.size * 4


@pytest.mark.parametrize(
    ("levels", "names"),
    [
        ((0.95, 0.05), ("fpr95", "recall_at_fpr05")),
        ((0.9, 0.2), ("fpr90", "recall_at_fpr20")),
        ((0.999, 0.001), ("fpr99.9", "recall_at_fpr0.1")),
        ((0.9999999, 1e-7), ("fpr99.99999", "recall_at_fpr0.00001")),
        ((1e-7, 0.015), ("fpr0.00001", "recall_at_fpr1.5")),
        ((1, 0), ("fpr100", "recall_at_fpr00")),
    ],
)
def test_levels_have_names_of_their_own(levels, names):
    metrics = PixelMetrics(tpr=levels[0], fpr=levels[1])
    metrics.update("a", np.float32([[1, 2]]), np.uint8([[0, 1]]))
    assert set(names) <= metrics.compute().values.keys()
    assert all(title_of(name)[0] for name in names)


def test_a_level_that_no_name_tells_from_0_or_1_is_refused():
    with pytest.raises(InputError, match="ten digits"):
        PixelMetrics(tpr=1 - 1e-15).compute()


def test_rows_with_masks_are_refused():
    rows = [np.ma.array([1.0, 2.0], mask=[True, False]), np.array([1.0, 2.0])]
    with pytest.raises(InputError, match="masked"):
        PixelMetrics().update("a", rows, np.zeros((2, 2), np.uint8))
