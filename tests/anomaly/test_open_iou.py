"""Open-world IoU against scikit-learn on pixels, and what it refuses."""

import math
import random as shuffle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics, UndefinedMetricWarning
from anomaly.metrics.calibration import apply_threshold, choose_threshold
from anomaly.metrics.open_iou import OpenIoUMetrics

NAMES = tuple("abcde")


def made(seed, count=3, classes=5):
    random = np.random.default_rng(seed)
    for index in range(count):
        size = tuple(random.integers(4, 12, 2))
        label = random.choice([0, 0, 0, 1, 255], size).astype(np.uint8)
        class_label = np.where(label == 0, random.integers(0, classes, size), random.integers(0, 256, size))
        prediction = np.where(random.random(size) < 0.6, class_label % classes, random.integers(0, classes, size))
        score = np.round(random.normal(label == 1, 1) * 8).astype(np.float32)
        yield f"{seed}/{index}", prediction.astype(np.uint8), score, label, class_label.astype(np.uint8)


def filled(frames, threshold=1.0, **settings):
    metrics = OpenIoUMetrics(NAMES, threshold, **settings)
    for frame in frames:
        metrics.update(*frame)
    return metrics


def ious(truth, found, labels):
    """Of classes in either list; the others are NaN."""
    values = jaccard_score(truth, found, labels=labels, average=None, zero_division=0)
    return [v if k in truth or k in found else math.nan for k, v in zip(labels, values, strict=True)]


def by_sklearn(frames, threshold):
    """Every pixel as class 0 to 4 or 5, anomaly, by its label and by the decision."""
    truth, said, called = [], [], []
    for _, prediction, score, label, class_label in frames:
        for place in np.ndindex(label.shape):
            if label[place] != 255:
                truth.append(5 if label[place] == 1 else int(class_label[place]))
                said.append(int(prediction[place]))
                called.append(score[place] >= threshold)
    truth, said, called = map(np.array, (truth, said, called))
    known, opened = truth != 5, np.where(called, 5, said)
    closed_iou, open_iou = ious(truth[known], said[known], range(5)), ious(truth, opened, range(6))
    figures = {
        "closed_miou": np.nanmean(closed_iou),
        "open_miou": np.nanmean(open_iou[:5]),
        "gap": np.nanmean(closed_iou) - np.nanmean(open_iou[:5]),
        "anomaly_iou": open_iou[5],
        "anomaly_precision": (truth[called] == 5).mean() if called.any() else math.nan,
        "tpr": called[~known].mean(),
        "fpr": called[known].mean(),
    }
    return figures, closed_iou, open_iou[:5]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-100.0, -3.0, 0.0, 4.0, 100.0]), st.integers(1, 5))
def test_equals_sklearn(seed, threshold, classes):
    frames = list(made(seed, classes=classes))
    result = filled(frames, threshold).compute()
    figures, closed_iou, open_iou = by_sklearn(frames, threshold)
    assert result.values == pytest.approx(figures, abs=1e-12, nan_ok=True)
    assert list(result.closed_iou.values()) == pytest.approx(closed_iou, abs=1e-12, nan_ok=True)
    assert list(result.open_iou.values()) == pytest.approx(open_iou, abs=1e-12, nan_ok=True)
    assert tuple(result.closed_iou) == tuple(result.open_iou) == NAMES
    assert result["gap"] == result.values["gap"]
    assert result.confusion.sum() == sum((label != 255).sum() for _, _, _, label, _ in frames)
    assert result.frames == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_merged_in_any_order_with_frames_seen_twice_equals_whole(seed):
    frames = list(made(seed, count=5))
    parts = [filled(frames[:3]), filled(frames[2:]), filled(frames[4:] + frames[:1])]
    shuffle.Random(seed).shuffle(parts)
    first, second, third = parts
    second.merge(third)
    first.merge(second)
    first.update(*frames[0])
    expected, found = filled(frames).compute(), first.compute()
    assert (found.confusion == expected.confusion).all()
    assert found.values == pytest.approx(expected.values, nan_ok=True)
    first.reset()
    first.update(*frames[0])
    assert first.compute().frames == 1


def test_a_perfect_network_with_a_perfect_score_has_no_gap():
    frames = [
        (name, np.where(label == 0, classes, 0), label == 1, label, classes) for name, _, _, label, classes in made(1)
    ]
    result = filled(frames, 1).compute()
    assert (result["closed_miou"], result["open_miou"], result["gap"], result["anomaly_iou"]) == (1, 1, 0, 1)


def test_the_threshold_comes_from_another_split():
    here, there = list(made(2)), list(made(3))
    pixels = {name: PixelMetrics("msp", dataset=name) for name in ("validation", "test")}
    for metrics, frames in zip(pixels.values(), (here, there), strict=True):
        for name, _, score, label, _ in frames:
            metrics.update(name, score, label)
    threshold = choose_threshold(pixels["validation"], "tpr", 0.95)
    result = filled(there, threshold, name="msp", dataset="test").compute()
    achieved = apply_threshold(threshold, pixels["test"])
    assert (result["tpr"], result["fpr"], result["anomaly_iou"]) == (achieved.tpr, achieved.fpr, achieved.iou)
    assert (result.threshold, result.threshold_from) == (threshold.value, "validation")
    with pytest.raises(InputError, match="chosen on 'validation' itself"):
        OpenIoUMetrics(NAMES, threshold, name="msp", dataset="validation")
    with pytest.raises(InputError, match="expected one of score 'energy'"):
        OpenIoUMetrics(NAMES, threshold, name="energy", dataset="test")


def test_undefined_without_anomalies():
    frames = [(name, said, score, np.where(label == 1, 255, label), k) for name, said, score, label, k in made(4)]
    with pytest.warns(UndefinedMetricWarning, match="no anomaly pixels"):
        result = filled(frames).compute()
    assert 0 < result["closed_miou"] < 1
    assert math.isnan(result["open_miou"])
    assert math.isnan(result["gap"])
    with pytest.warns(UndefinedMetricWarning, match="no known and anomaly pixels"):
        assert all(math.isnan(value) for value in OpenIoUMetrics(NAMES, 0.5).compute().values.values())


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, np.full((4, 4), 5), "prediction of 0 to 4"),
        (1, np.zeros((4, 5), int), "prediction of integers with the label's shape"),
        (1, np.zeros((4, 4)), "prediction of integers"),
        (2, np.full((4, 4), np.nan), "NaN"),
        (2, np.zeros((2, 2)), "resize the score map"),
        (3, np.full((4, 4), 2, np.uint8), "label values"),
        (4, np.full((4, 4), 255, np.uint8), "class label of 0 to 4"),
        (4, np.full((4, 4), -1), "class label of 0 to 4"),
    ],
)
def test_refuses_bad_frames(place, value, message):
    zeros = np.zeros((4, 4), np.uint8)
    frame = ["f", zeros, zeros.astype(np.float32), zeros, zeros]
    frame[place] = value
    with pytest.raises(InputError, match=f"frame 'f'.*{message}"):
        OpenIoUMetrics(NAMES, 0.5).update(*frame)


def test_refuses_bad_settings_and_other_parts():
    for classes, threshold, message in (
        ((), 0.5, "classes"),
        (("a", "a"), 0.5, "classes"),
        (NAMES, math.nan, "threshold"),
        (NAMES, "best_f1", "threshold"),
    ):
        with pytest.raises(InputError, match=message):
            OpenIoUMetrics(classes, threshold)
    for other in (
        OpenIoUMetrics(NAMES, 0.6),
        OpenIoUMetrics(NAMES[::-1], 0.5),
        OpenIoUMetrics(NAMES, 0.5, dataset="x"),
    ):
        with pytest.raises(InputError, match="cannot merge"):
            OpenIoUMetrics(NAMES, 0.5).merge(other)
