import numpy as np
import pytest

import anomaly.method
from anomaly.controls import CONSTANT, RANDOM, SHUFFLED, Control, negative_controls
from anomaly.datasets.catalog import open_split
from tests.anomaly import set_trees


@pytest.fixture
def split(tmp_path):
    root = tmp_path / "street_scenes/open_world"
    for i in range(5):
        image = set_trees.photo(i, 60, 80)
        label = np.zeros((60, 80), np.uint8)
        label[10 : 20 + 4 * i, 10:30] = 2
        image[label == 2] = 255  # brightness gives the anomalies away, and frames differ in both
        image[:, 40:] = 40 * i
        set_trees.write(root / "frames" / f"f{i}.png", image)
        set_trees.write(root / "frames" / f"f{i}.labels" / "labels_semantic.png", label)
    return open_split("street_scenes", tmp_path)


def by_name(controls):
    return {one.name: one for one in controls}


def test_scores_that_know_nothing_pass(split):
    seen = []
    controls = by_name(negative_controls([split], on_frame=lambda: seen.append(1)))
    assert list(controls) == [RANDOM, CONSTANT, SHUFFLED]
    assert all(one.passed for one in controls.values())
    assert controls[CONSTANT].auroc == 0.5
    share = np.mean([frame.label == 1 for frame in split])
    assert controls[CONSTANT].ap == controls[CONSTANT].share == pytest.approx(share, abs=1e-12)
    assert len(seen) == 15


def leak_label(monkeypatch):
    """A pipeline in which the label reaches the score."""
    read = anomaly.method.Method.maps

    def maps(self, frame, *rest):
        return {name: score + 0.02 * (frame.label == 1) for name, score in read(self, frame, *rest).items()}

    monkeypatch.setattr(anomaly.method.Method, "maps", maps)


def drop_known(monkeypatch):
    """A pipeline that ignores known pixels of low scores."""
    update = anomaly.measures.PixelMetrics.update

    def updated(self, frame_id, score, label):
        update(self, frame_id, score, np.where((label == 0) & (score > 0) & (score < 0.2), np.uint8(255), label))

    monkeypatch.setattr(anomaly.measures.PixelMetrics, "update", updated)


@pytest.mark.parametrize("fault", [leak_label, drop_known])
def test_broken_pipelines_fail(split, monkeypatch, fault):
    fault(monkeypatch)
    assert not all(one.passed for one in negative_controls([split]))


def test_controls_are_the_same_each_time(split):
    assert negative_controls([split]) == negative_controls([split])


@pytest.mark.parametrize(
    ("auroc", "ap", "passed"), [(0.5, 0.1, True), (0.52, 0.1, False), (0.48, 0.1, False), (0.5, 0.12, False)]
)
def test_margins(auroc, ap, passed):
    assert Control("road", RANDOM, auroc, ap, 0.1, 0.01).passed == passed


def test_real_sets(data_root):
    controls = negative_controls([open_split("road_anomaly", data_root).limit(6)])
    assert all(one.passed for one in controls)
