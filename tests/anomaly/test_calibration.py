"""Thresholds against trying every score, and what they achieve elsewhere against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics, UndefinedMetricWarning
from anomaly.metrics.calibration import apply_threshold, choose_threshold
from tests.metric_tester import frame_lists, property_test


def filled(frames, name="score", **settings):
    metrics = PixelMetrics(name, **settings)
    for frame in frames:
        metrics.update(*frame)
    return metrics


def made(seed, dtype=np.float32, frames=3):
    random = np.random.default_rng(seed)
    for index in range(frames):
        label = random.choice([0, 0, 0, 1, 255], (20, 30)).astype(np.uint8)
        yield f"{seed}/{index}", (random.normal(size=(20, 30)) - 300 + 2 * (label == 1)).astype(dtype), label


def pixels(frames, value):
    return np.concatenate([score[label == value] for _, score, label in frames])


class TestAgainstEveryScore:
    @property_test(frames=frame_lists(), level=st.sampled_from([0.05, 0.5, 0.9, 0.95, 1.0]))
    def test_tpr(self, frames, level):
        anomaly = pixels(frames, 1)
        if not anomaly.size:
            return
        found = choose_threshold(filled(frames), "tpr", level).value
        assert found == max(t for t in anomaly.tolist() if (anomaly >= t).sum() / anomaly.size >= level)

    @property_test(frames=frame_lists(), level=st.sampled_from([0.0, 0.05, 0.3, 0.99]))
    def test_fpr(self, frames, level):
        known = pixels(frames, 0)
        if not known.size:
            return
        metrics = filled(frames)
        found = metrics.dtype.type(choose_threshold(metrics, "fpr", level).value)
        below = np.nextafter(found, metrics.dtype.type(-np.inf))
        assert (known >= found).sum() / known.size <= level < (known >= below).sum() / known.size

    @property_test(frames=frame_lists())
    def test_a_threshold_does_the_same_in_the_scores_own_type_and_in_float64(self, frames):
        metrics = filled(frames)
        for rule, needed in (("tpr", metrics.num_anomaly), ("fpr", metrics.num_known)):
            if needed:
                value = choose_threshold(metrics, rule).value
                for _, score, _ in frames:
                    score = score.astype(metrics.dtype)
                    assert ((score >= value) == (score.astype(np.float64) >= np.float64(value))).all()


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_wide_scores_on_disk_as_in_memory(seed):
    random = np.random.default_rng(seed)
    kind, dtype = random.integers(3), random.choice([np.float32, np.float64])
    score = random.normal(size=(8, 9)) * 10.0 ** random.integers(-30, 30, (8, 9) if kind else ())
    frames = [("a", score.astype(dtype), random.choice([0, 1], (8, 9)).astype(np.uint8))]
    frames += [("b", -frames[0][1], 1 - frames[0][2])]
    for rule in ("tpr", "fpr", "best_f1"):
        here, there = (choose_threshold(filled(frames, memory_budget=size), rule) for size in (2**30, 1))
        assert here == there


def test_what_is_achieved_on_another_split_is_what_sklearn_counts():
    here, there = list(made(0)), list(made(1))
    metrics, other = filled(here, dataset="validation"), filled(there, dataset="test")
    for rule in ("tpr", "fpr", "best_f1"):
        threshold = choose_threshold(metrics, rule)
        achieved = apply_threshold(threshold, other)
        truth = np.concatenate([np.ones_like(pixels(there, 1)), np.zeros_like(pixels(there, 0))])
        called = np.concatenate([pixels(there, 1), pixels(there, 0)]) >= threshold.value
        (tn, fp), (fn, tp) = confusion_matrix(truth, called)
        assert (achieved.tp, achieved.fp) == (tp, fp)
        assert (achieved.anomaly_pixels, achieved.known_pixels) == (tp + fn, tn + fp)
        assert (achieved.tpr, achieved.fpr) == (tp / (tp + fn), fp / (fp + tn))
        expected = [function(truth, called) for function in (precision_score, f1_score, jaccard_score)]
        assert [achieved.precision, achieved.f1, achieved.iou] == pytest.approx(expected, abs=1e-12)
        assert (achieved.dataset, achieved.threshold.dataset, achieved.threshold.rule) == ("test", "validation", rule)


def test_on_its_own_split_a_threshold_keeps_its_level():
    metrics = filled(made(3))
    assert 0.95 <= apply_threshold(choose_threshold(metrics, "tpr"), metrics).tpr < 0.953
    assert 0.049 < apply_threshold(choose_threshold(metrics, "fpr"), metrics).fpr <= 0.05
    best = metrics.compute()["best_f1"]
    assert apply_threshold(choose_threshold(metrics, "best_f1"), metrics).f1 == best


def test_fpr_of_95_is_that_of_the_metrics():
    metrics = filled(made(4, np.float64))
    assert apply_threshold(choose_threshold(metrics), metrics).fpr == metrics.compute()["fpr95"]


def test_known_pixels_alone_give_a_threshold_by_fpr_and_anomalies_alone_by_tpr():
    score, none = np.float32([[1, 2, 3, 4]]), np.zeros((1, 4), np.uint8)
    known, anomaly = filled([("a", score, none)], dataset="known"), filled([("a", score, none + 1)])
    assert choose_threshold(known, "fpr", 0.25).value == np.nextafter(np.float32(3), np.float32(4))
    assert choose_threshold(anomaly, "tpr", 0.75).value == 2.0
    for metrics, rule, missing in ((known, "tpr", "anomaly"), (anomaly, "fpr", "known"), (known, "best_f1", "anomaly")):
        with pytest.raises(InputError, match=f"rule {rule} needs {missing} pixels"):
            choose_threshold(metrics, rule)
    with pytest.warns(UndefinedMetricWarning, match="no anomaly pixels"):
        achieved = apply_threshold(choose_threshold(known, "fpr", 0.25), known)
    assert achieved.fpr == 0.25
    assert math.isnan(achieved.tpr)
    assert math.isnan(achieved.f1)


def test_constant_scores_and_zeros_of_either_sign():
    metrics = filled([("a", np.float32([[0.0, -0.0, 0.0, -0.0]]), np.uint8([[0, 0, 1, 1]]))])
    threshold = choose_threshold(metrics, "tpr").value
    assert (threshold, math.copysign(1, threshold)) == (0.0, 1.0)
    assert choose_threshold(metrics, "fpr").value == np.nextafter(np.float32(0), np.float32(1))


def test_precision_is_undefined_with_nothing_flagged():
    metrics = filled(made(5))
    other = filled([("z", np.full((1, 2), -1e6, np.float32), np.uint8([[0, 1]]))])
    with pytest.warns(UndefinedMetricWarning, match="no flagged pixels"):
        achieved = apply_threshold(choose_threshold(metrics), other)
    assert math.isnan(achieved.precision)
    assert (achieved.tpr, achieved.f1) == (0, 0)


def test_refuses_what_makes_no_threshold():
    metrics = filled(made(6))
    for rule, level, message in (
        ("recall", None, "rule: expected one of tpr, fpr, best_f1"),
        ("tpr", 0.0, "tpr"),
        ("tpr", 1.1, "tpr"),
        ("fpr", 1.0, "fpr"),
        ("fpr", -0.1, "fpr"),
        ("best_f1", 0.5, "best_f1 takes none"),
    ):
        with pytest.raises(InputError, match=message):
            choose_threshold(metrics, rule, level)
    with pytest.raises(InputError, match="score 'score' to score 'other'"):
        apply_threshold(choose_threshold(metrics), filled(made(6), name="other"))
    with pytest.raises(InputError, match="binned"):
        choose_threshold(filled(made(6), mode="binned"))
