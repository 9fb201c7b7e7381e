import re
from dataclasses import replace

import numpy as np
import pytest

from anomaly.datasets.catalog import load_dataset
from anomaly.evaluation.negative_controls import CONSTANT, RANDOM, SHUFFLED, Control, negative_controls
from anomaly.evaluation.score_maps import ScorePipeline
from anomaly.metrics import PixelMetrics
from tests.anomaly import set_trees

IGNORED = 255


def write_set(root, labels, images=None):
    """A set of label maps of 0 known, 2 anomaly and 255 ignored, with images of noise."""
    for i, label in enumerate(labels):
        image = set_trees.photo(i, *label.shape) if images is None else images[i]
        set_trees.write(root / "street_scenes/open_world/frames" / f"f{i}.png", image)
        set_trees.write(root / "street_scenes/open_world/frames" / f"f{i}.labels" / "labels_semantic.png", label)
    return replace(load_dataset("street_scenes", root), encoding={0: 0, 2: 1, IGNORED: IGNORED})


@pytest.fixture
def dataset(tmp_path):
    labels, images = [], []
    for i in range(5):
        image = set_trees.photo(i, 180, 240)
        label = np.zeros((180, 240), np.uint8)
        label[10 : 20 + 4 * i, 10:30] = 2
        label[-20:] = IGNORED
        image[label == 2] = 255  # brightness gives the anomalies away, and frames differ in both
        image[:, 120:] = 40 * i
        labels.append(label)
        images.append(image)
    return write_set(tmp_path, labels, images)


def by_name(controls):
    return {one.name: one for one in controls}


def test_scores_that_know_nothing_pass(dataset):
    seen = []
    controls = by_name(negative_controls([dataset], on_frame=lambda: seen.append(1)))
    assert list(controls) == [RANDOM, CONSTANT, SHUFFLED]
    assert all(one.passed for one in controls.values())
    assert controls[CONSTANT].auroc == 0.5
    share = np.mean(np.concatenate([frame.label[frame.label != IGNORED] == 1 for frame in dataset]))
    assert controls[CONSTANT].ap == controls[CONSTANT].share == pytest.approx(share, abs=1e-12)
    assert controls[CONSTANT].ap_range == (controls[CONSTANT].share,) * 2
    assert controls[SHUFFLED].share == pytest.approx(share, rel=0.1)
    assert controls[SHUFFLED].ap_range[0] < share < controls[SHUFFLED].ap_range[1]
    assert len(seen) == 15


def leak_label(monkeypatch, sign=1):
    """A pipeline in which the label reaches the score."""
    read = ScorePipeline.read

    def leaking(self, frame, store):
        return {name: score + sign * 0.02 * (frame.label == 1) for name, score in read(self, frame, store).items()}

    monkeypatch.setattr(ScorePipeline, "read", leaking)


def leak_label_reversed(monkeypatch):
    leak_label(monkeypatch, sign=-2)


def change_update(monkeypatch, change):
    update = PixelMetrics.update
    monkeypatch.setattr(PixelMetrics, "update", lambda self, name, *pair: update(self, name, *change(*pair)))


def drop_known(monkeypatch):
    """A pipeline that ignores known pixels of low scores."""
    dropped = np.uint8(IGNORED)
    change_update(
        monkeypatch,
        lambda score, label: (score, np.where((label == 0) & (score > 0) & (score < 0.2), dropped, label)),
    )


def count_ignored(monkeypatch):
    """A pipeline that takes ignored pixels for known ones."""
    change_update(monkeypatch, lambda score, label: (score, np.where(label == IGNORED, np.uint8(0), label)))


def lose_ties(monkeypatch):
    """A pipeline that breaks ties as it comes upon them, so that a constant score has an order."""
    change_update(monkeypatch, lambda score, label: (score + np.arange(score.size).reshape(score.shape) * 1e-6, label))


def drop_anomalies(monkeypatch):
    """A pipeline that loses every second anomaly."""

    def change(score, label):
        rows = np.arange(len(label))[:, None]
        return score, np.where((label == 1) & (rows % 2 == 0), np.uint8(IGNORED), label)

    change_update(monkeypatch, change)


FAULTS = {
    leak_label: r"AP \S+ is above",
    leak_label_reversed: r"AUROC \S+ is below",
    drop_known: r"AUROC \S+ is below",
    count_ignored: r"AP \S+ is below",
    lose_ties: r"AUROC \S+ is (above|below)",
    drop_anomalies: r"AP \S+ is below",
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_broken_pipelines_fail_and_say_which_bound_was_left(dataset, monkeypatch, fault, seed):
    fault(monkeypatch)
    failed = [one for one in negative_controls([dataset], seed=seed) if not one.passed]
    assert any(re.search(FAULTS[fault], one.fault) for one in failed)


def test_seeds_draw_anew_and_the_same_each_time(dataset):
    first, again, other = (by_name(negative_controls([dataset], seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert negative_controls([dataset]) == list(first.values())
    assert first[CONSTANT] == other[CONSTANT]
    assert first[RANDOM].auroc != other[RANDOM].auroc
    assert first[SHUFFLED].auroc != other[SHUFFLED].auroc


@pytest.mark.parametrize(
    ("auroc", "ap", "fault"),
    [
        (0.5, 0.1, ""),
        (0.49, 0.13, ""),
        (0.52, 0.1, "AUROC 52 is above 51"),
        (0.48, 0.1, "AUROC 48 is below 49"),
        (0.5, 0.14, "AP 14 is above 13"),
        (0.6, 0.08, "AUROC 60 is above 51 and AP 8 is below 9"),
        (float("nan"), 0.1, "AUROC nan is below 49"),
    ],
)
def test_bounds(auroc, ap, fault):
    control = Control("road", RANDOM, auroc, ap, 0.1, (0.49, 0.51), (0.09, 0.13))
    assert control.fault == fault
    assert control.passed == (not fault)


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 2])
def test_a_single_pixel_of_a_kind(tmp_path, few):
    """Labels are dealt out so that there is one of each kind at least."""
    label = np.full((5, 6), 2 - few, np.uint8)
    label[1, 1] = few
    dataset = write_set(tmp_path, [label, np.full((5, 6), 2 - few, np.uint8)])
    for seed in range(30):
        assert all(one.passed for one in negative_controls([dataset], seed=seed))


@pytest.mark.slow
@pytest.mark.parametrize("anomalies", [3, 20, 1000])
def test_hundreds_of_seeds(tmp_path, anomalies):
    """With the failures of earlier bounds, one or two in a hundred, these would hardly ever pass together."""
    random = np.random.default_rng(0)
    labels = np.zeros(2 * 40 * 50, np.uint8)
    labels[random.permutation(len(labels))[:anomalies]] = 2
    dataset = write_set(tmp_path, labels.reshape(2, 40, 50))
    assert all(one.passed for seed in range(100) for one in negative_controls([dataset], seed=seed))


@pytest.mark.slow
def test_real_sets(data_root):
    controls = negative_controls([load_dataset("road_anomaly", data_root).limit(6)])
    assert all(one.passed for one in controls)
