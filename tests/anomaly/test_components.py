import math
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import InputError
from anomaly.metrics import UndefinedMetricWarning
from anomaly.metrics.component import LEVELS, ComponentMetrics
from anomaly.metrics.functional.components import TRACKS, Track, frame_components
from tests import oracles

PARTS = ("siou", "ppv", "siou_predicted")
SMALL = Track("small", 5, 3)


def blobs(seed, size=(24, 31), share=0.3, blur=1.5):
    """Smooth noise cut at a quantile: components of many sizes, some touching at corners."""
    noise = np.random.default_rng(seed).normal(size=size)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    return noise > np.quantile(noise, 1 - share)


def scene(seed, size=(24, 31), blur=1.5):
    label = blobs(seed, size, 0.25, blur).astype(np.uint8)
    label[blobs(seed + 1000, size, 0.2, blur)] = 255
    return blobs(seed + 2000, size, 0.35, blur) ^ (blobs(seed + 3000, size, 0.1, blur) & (label == 1)), label


def check(predicted, label, track):
    found = frame_components(predicted, label, track)
    expected = oracles.components(predicted, label, track.min_predicted, track.min_truth)
    for part, values in zip(PARTS, expected, strict=True):
        np.testing.assert_allclose(np.sort(getattr(found, part)), np.sort(values), rtol=0, atol=1e-12, err_msg=part)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from([0, 0.7, 1.5, 3]),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_equals_the_loop(seed, size, blur, min_predicted, min_truth):
    check(*scene(seed, size, blur), Track("any", min_predicted, min_truth))


def test_equals_the_loop_on_large_frames():
    for seed in range(3):
        predicted, label = scene(seed, (360, 640), 8)
        for track in TRACKS.values():
            assert check(predicted, label, track).siou.size > 2


def test_corners_join_and_void_cuts():
    label = np.zeros((4, 6), np.uint8)
    label[1, 1] = label[2, 2] = 1  # one component by its corner
    label[:, 3] = 255
    predicted = np.zeros((4, 6), bool)
    predicted[2, 1:] = True  # cut in two by the ignored column: (2, 1), (2, 2) and (2, 4), (2, 5)
    found = check(predicted, label, Track("all", 0, 0))
    assert found.siou.tolist() == [pytest.approx(1 / 3)]
    assert sorted(found.ppv) == [0, 0.5]


def test_pixels_on_other_objects_are_not_held_against_one():
    """One prediction over two objects: each has the other taken out of its union."""
    label = np.zeros((1, 9), np.uint8)
    label[0, :3] = label[0, 5:9] = 1
    found = check(np.ones((1, 9), bool), label, Track("all", 0, 0))
    assert sorted(found.siou) == [pytest.approx(3 / 5), pytest.approx(4 / 6)]
    assert found.siou_predicted.tolist() == [pytest.approx(7 / 9)]


def test_a_prediction_wholly_on_a_small_object_is_gone():
    label = np.zeros((6, 6), np.uint8)
    label[0, 0] = 1
    found = check(label == 1, label, Track("sizes", 0, 2))
    assert not found.siou.size
    assert not found.ppv.size


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("predicted", [False, True])
def test_frames_of_one_kind(value, predicted):
    check(np.full((7, 5), predicted), np.full((7, 5), value, np.uint8), SMALL)


def test_golden(golden):
    """The published code takes scores above the threshold, in float16."""
    record = np.load(golden("components.npz"))
    for prefix, track in (("AnomalyTrack", TRACKS["anomaly_track"]), ("ObstacleTrack", TRACKS["obstacle_track"])):
        for threshold in (0.8, 1.5):
            key = f"{prefix}_thr{threshold}_"
            metrics = ComponentMetrics(track, float(np.nextafter(np.float16(threshold), np.float16(np.inf))))
            for index, (score, label) in enumerate(zip(record["scores"], record["labels"], strict=True)):
                metrics.update(str(index), score, label)
            result = metrics.compute()
            means = [result[name] for name in ("f1_mean", "siou", "ppv", "siou_predicted")]
            np.testing.assert_allclose(means, record[key + "f1mean_siougt_precpred_sioupred"], rtol=0, atol=1e-9)
            for level in (25, 50, 75):
                assert [result[f"{part}_{level}"] for part in ("tp", "fn", "fp")] == record[
                    f"{key}tpfnfp_{level}"
                ].tolist()
            for part, name in (("siou", "siou_gt_all"), ("ppv", "prec_pred_all")):
                values = np.concatenate([getattr(frame, part) for frame in result.per_frame.values()])
                np.testing.assert_allclose(np.sort(values), np.sort(record[key + name]), rtol=0, atol=1e-9)


def scores(seed, size=(24, 31)):
    predicted, label = scene(seed, size)
    noise = np.random.default_rng(seed).normal(size=size)
    return (predicted + 0.3 * noise).astype(np.float32), label


def filled(seeds, **changes):
    metrics = ComponentMetrics(**{"track": SMALL, "threshold": 0.5, **changes})
    for seed in seeds:
        metrics.update(f"frame{seed}", *scores(seed))
    return metrics


def test_pools_components_over_frames():
    result = filled(range(6)).compute()
    parts = [oracles.components(score >= 0.5, label, 5, 3) for score, label in map(scores, range(6))]
    siou, ppv = ([value for part in parts for value in part[i]] for i in (0, 1))
    assert result["siou"] == pytest.approx(np.mean(siou), abs=1e-12)
    assert result["ppv"] == pytest.approx(np.mean(ppv), abs=1e-12)
    f1 = {level: oracles.component_f1(siou, ppv, level) for level in LEVELS}
    assert result["f1_mean"] == pytest.approx(np.mean(list(f1.values())), abs=1e-12)
    assert [result[f"f1_{level}"] for level in (25, 50, 75)] == pytest.approx(
        [f1[level] for level in (0.25, 0.5, 0.75)]
    )
    assert (result.truth_components, result.predicted_components, result.frames) == (len(siou), len(ppv), 6)


def test_the_best_threshold_of_the_set():
    result = filled(range(4), threshold="best_f1").compute()
    pixels = [scores(seed) for seed in range(4)]
    score, label = (np.concatenate([pair[i].ravel() for pair in pixels]) for i in (0, 1))
    score, label = score[label != 255], label[label != 255]
    candidates = np.unique(score[label == 1])
    f1 = [2 * (label[score >= t] == 1).sum() / ((score >= t).sum() + (label == 1).sum()) for t in candidates]
    assert result.threshold == candidates[np.argmax(f1)]
    assert result.threshold_from == "best_f1"
    fixed = filled(range(4), threshold=result.threshold).compute()
    assert fixed.values == result.values
    assert fixed.threshold_from == "given"
    assert filled(range(4), threshold="best_f1").compute(result.threshold).values == result.values


@pytest.mark.parametrize("threshold", [0.5, "best_f1"])
def test_merging_and_duplicates(threshold):
    whole = filled(range(5), threshold=threshold).compute().values
    parts = [filled(seeds, threshold=threshold) for seeds in ([0, 1], [1, 2, 3], [4, 0])]
    parts[1].merge(parts[2])
    parts[0].merge(parts[1])
    assert parts[0].compute().values == whole
    assert parts[1].compute().frames == 5  # 0, 1, 2, 3, 4
    again = filled([4, 0, 3, 1, 2, 2], threshold=threshold)
    assert again.compute().values == whole
    again.reset()
    again.update("frame7", *scores(7))
    assert again.compute().frames == 1


@pytest.mark.parametrize(
    "changes", [{"track": TRACKS["anomaly_track"]}, {"threshold": 0.25}, {"name": "msp"}, {"dataset": "other"}]
)
def test_only_parts_of_one_evaluation_merge(changes):
    with pytest.raises(InputError, match=f"cannot merge component metrics with {next(iter(changes))}"):
        filled([0]).merge(filled([1], **changes))


def test_no_component_is_nan_with_a_warning():
    metrics = ComponentMetrics(SMALL, 0.5)
    metrics.update("a", np.ones((9, 9), np.float32), np.zeros((9, 9), np.uint8))
    with pytest.warns(UndefinedMetricWarning, match="no label has a component") as caught:
        result = metrics.compute()
    assert caught[0].filename == __file__
    assert math.isnan(result["f1_mean"])
    assert math.isnan(result["siou"])
    assert (result["ppv"], result["fp_50"]) == (0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled([0]).compute()


def test_bad_input_is_refused():
    score, label = scores(0)
    for threshold in (0.5, "best_f1"):
        metrics = ComponentMetrics(SMALL, threshold, name="msp")
        with pytest.raises(InputError, match=r"frame 'a': score 'msp' has 1 NaN or infinite"):
            metrics.update("a", np.where(np.arange(31) + np.arange(24)[:, None] == 0, np.nan, score), label)
        with pytest.raises(InputError, match="frame 'a': score 'msp' has shape"):
            metrics.update("a", score[1:], label)
        with pytest.raises(InputError, match="frame 'a': label values"):
            metrics.update("a", score, label + 1)
    for threshold in ("best", math.nan, math.inf, None):
        with pytest.raises(InputError, match="threshold: expected a finite score"):
            ComponentMetrics(SMALL, threshold)
    with pytest.raises(InputError, match="sizes in pixels"):
        Track("odd", -1, 0)


def test_views_count_as_their_copies():
    score, label = scores(3, (40, 40))
    first, second = ComponentMetrics(SMALL, 0.5), ComponentMetrics(SMALL, 0.5)
    first.update("a", score.T[::-1, ::2], label.T[::-1, ::2])
    second.update("a", score.T[::-1, ::2].copy(), label.T[::-1, ::2].copy())
    assert first.compute().values == second.compute().values
