"""What is measured beside the pixel metrics, wired through the evaluator, against scikit-learn on the same pixels."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, precision_recall_curve, roc_curve

from anomaly.datasets.catalog import load_dataset
from anomaly.errors import InputError
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.evaluator import calibrate, evaluate
from anomaly.metrics import PixelMetrics
from anomaly.metrics.functional.components import Track
from anomaly.scores.registry import get_scores
from tests import oracles
from tests.anomaly import set_trees
from tests.anomaly.test_evaluator import ColourDetector

HEIGHT, WIDTH = 24, 32
TRACK = Track("tiny", 3, 2)
SCORES = get_scores(["msp", "gmm_nll"])


class ElevenClasses(ColourDetector):
    """Eleven fixed random projections of the colours."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def __call__(self, inputs):
        weights = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
        prediction = super().__call__(inputs)
        logits = torch.einsum("bchw,ck->bkhw", inputs[:, :, ::2, ::2], weights)
        return replace(prediction, logits=logits, class_log_likelihood=2 * logits)


@pytest.fixture
def split(tmp_path):
    for seed in range(8):
        random, folder = np.random.default_rng(seed), tmp_path / "camvid_ood"
        label = np.kron(random.integers(0, 13, (4, 4)), np.ones((6, 8))).astype(np.uint8)
        label[:6, :8], label[6:12, :8] = 12, 0
        set_trees.write(folder / "images" / f"f{seed}.png", set_trees.photo(seed, HEIGHT, WIDTH))
        set_trees.write(folder / "labels" / f"f{seed}.png", label)
    return load_dataset("camvid_ood", tmp_path)


def pixels(detector, split, name):
    """Score, label, class and predicted class of every frame, resized by torch."""
    found = []
    for frame in split:
        prediction = detector(detector.prepare(frame.image)[None])
        logits = torch.nn.functional.interpolate(prediction.logits, (HEIGHT, WIDTH), mode="bilinear")[0]
        (score,) = [score for score in SCORES if score.name == name]
        small = score(prediction)[0]
        score = torch.nn.functional.interpolate(small[None, None], (HEIGHT, WIDTH), mode="bilinear")[0, 0]
        found.append((score.numpy(), frame.label, frame.class_label, logits.argmax(0).numpy()))
    return found


def flat(frames):
    score, label = (np.concatenate([frame[i].ravel() for frame in frames]) for i in (0, 1))
    return score[label < 2], label[label < 2]


@pytest.mark.parametrize("name", ["msp", "gmm_nll"])
def test_threshold_of_one_half_on_the_other(split, name):
    first, second = split.half("first"), split.half("second")
    detector = ElevenClasses(split.classes)
    thresholds = calibrate(detector, Calibration(first, "tpr", 0.8), SCORES)
    (result,) = evaluate(detector, [second], SCORES, config=MetricConfig(thresholds=thresholds))

    score, label = flat(pixels(detector, first, name))
    _, tpr, given = roc_curve(label, score, drop_intermediate=False)
    threshold = given[np.argmax(tpr >= 0.8)]
    found = result.scores[name].at_threshold
    assert found["threshold"] == pytest.approx(threshold, rel=1e-6)
    frames = pixels(detector, second, name)
    score, label = flat(frames)
    called = score >= found["threshold"]
    assert found["tpr"] == pytest.approx(called[label == 1].mean(), abs=2e-3)
    assert found["fpr"] == pytest.approx(called[label == 0].mean(), abs=2e-3)
    assert found["iou"] == pytest.approx(jaccard_score(label, called), abs=2e-3)

    truth = np.concatenate([np.where(frame[1] == 1, 11, frame[2]).ravel() for frame in frames])
    said = np.concatenate([np.where(frame[0] >= found["threshold"], 11, frame[3]).ravel() for frame in frames])
    closed = np.concatenate([frame[3].ravel() for frame in frames])
    kind = np.concatenate([frame[1].ravel() for frame in frames])
    of_open = jaccard_score(truth[kind < 2], said[kind < 2], labels=range(12), average=None, zero_division=0)
    of_closed = jaccard_score(truth[kind == 0], closed[kind == 0], labels=range(11), average=None, zero_division=0)
    assert result.scores[name].open_world["open_miou"] == pytest.approx(of_open[:11].mean(), abs=2e-3)
    assert result.scores[name].open_world["closed_miou"] == pytest.approx(of_closed.mean(), abs=2e-3)
    assert result.scores[name].open_world["tpr"] == found["tpr"]


def test_a_threshold_is_not_used_on_the_set_it_was_chosen_on(split):
    detector, first = ElevenClasses(split.classes), split.half("first")
    config = MetricConfig(thresholds=calibrate(detector, Calibration(first), SCORES), track=TRACK)
    for at, components in (("best_f1", True), ("calibrated", False)):
        (result,) = evaluate(detector, [first], SCORES, config=replace(config, components_at=at))
        score = result.scores["msp"]
        assert (score.at_threshold, score.open_world) == ({}, {})
        assert bool(score.components) == components


def test_no_open_world_iou_for_other_classes(split):
    detector = ElevenClasses(split.classes[::-1])
    config = MetricConfig(thresholds=calibrate(detector, Calibration(split.half("first")), SCORES))
    (result,) = evaluate(detector, [split.half("second")], SCORES, config=config)
    assert result.scores["msp"].open_world == {}
    assert result.scores["msp"].at_threshold["tpr"] > 0


@pytest.mark.parametrize("at", ["best_f1", 0.5])
def test_components(split, at):
    detector = ElevenClasses(split.classes)
    (result,) = evaluate(detector, [split], SCORES[:1], config=MetricConfig(track=TRACK, components_at=at))
    frames = pixels(detector, split, "msp")
    if at == "best_f1":
        score, label = flat(frames)
        precision, recall, given = precision_recall_curve(label, score)
        at = given[np.argmax(2 * precision[:-1] * recall[:-1] / np.maximum(precision + recall, 1e-9)[:-1])]
    siou, ppv, _ = (
        np.concatenate(parts)
        for parts in zip(*(oracles.components(s >= at, label, 3, 2) for s, label, *_ in frames), strict=True)
    )
    found = result.scores["msp"].components
    assert found["threshold"] == pytest.approx(at, rel=1e-6)
    assert found["f1_50"] == pytest.approx(oracles.component_f1(siou, ppv, 0.5), abs=0.02)
    assert found["siou"] == pytest.approx(np.mean(siou), abs=0.01)


def test_intervals_states_and_memory(split, tmp_path):
    detector = ElevenClasses(split.classes)
    config = MetricConfig(replicates=200, states=tmp_path / "states", memory_budget=1, spill_dir=tmp_path)
    (result,) = evaluate(detector, [split], SCORES, config=config)
    (plain,) = evaluate(detector, [split], SCORES)
    for name in ("msp", "gmm_nll"):
        score = result.scores[name]
        assert score.values == plain.scores[name].values
        assert score.confidence_intervals.keys() == {"auroc", "ap", "fpr95", "best_f1", "recall_at_fpr05"}
        for figure, (low, high) in score.confidence_intervals.items():
            assert low < score.values[figure] < high
        state = PixelMetrics.load(tmp_path / "states" / f"camvid_ood.{name}.npz")
        assert state.compute().values == score.values
    assert {path.name for path in tmp_path.iterdir()} == {"camvid_ood", "states"}


def test_binned_bounds_hold_the_exact_figures(split):
    (binned,) = evaluate(ElevenClasses(split.classes), [split], SCORES, config=MetricConfig(mode="binned"))
    (exact,) = evaluate(ElevenClasses(split.classes), [split], SCORES)
    for name, (low, high) in binned.scores["msp"].bounds.items():
        assert low <= exact.scores["msp"].values[name] <= high


def test_a_calibration_set_without_anomalies_is_refused_by_name(split):
    known = replace(split, encoding={**split.encoding, 12: 255}, every_frame=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calibrate(ElevenClasses(split.classes), Calibration(known, "fpr", 0.1), SCORES)
    assert math.isfinite(found["msp"].value)
    with pytest.raises(InputError, match="needs anomaly pixels, and the dataset 'camvid_ood' has none"):
        calibrate(ElevenClasses(split.classes), Calibration(known), SCORES)
