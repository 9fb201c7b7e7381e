import numpy as np
import pytest

from anomaly.metrics import PixelMetrics, exact
from anomaly.metrics.functional.curve import operating_points
from anomaly.metrics.functional.thinned import ThinnedCurve


def scores(seed):
    random = np.random.default_rng(seed)
    return np.sort(random.normal(size=20_000)), np.sort(random.normal(1, 1.3, 3000))


@pytest.mark.parametrize("tolerance", [0.5, 0.01, 0.002])
def test_what_is_left_out_is_near_what_is_kept_before_it(tolerance):
    points = operating_points(*scores(0))
    thinned = ThinnedCurve(tolerance)
    thinned.add(points)
    curve = thinned.curve()
    rates = np.stack([points.tp / 3000, points.fp / 20_000, points.tp / (points.tp + points.fp)], 1)
    kept = np.searchsorted(-np.array(curve.thresholds), -points.thresholds, side="right") - 1
    assert (np.abs(rates - np.stack([curve.tpr, curve.fpr, curve.precision], 1)[kept]) < tolerance).all()
    assert (curve.thresholds[0], curve.thresholds[-1]) == (points.thresholds[0], points.thresholds[-1])
    assert curve.tpr[-1] == 1
    assert len(curve.tpr) < 3 * 3 / tolerance
    assert curve.tolerance == tolerance


def test_parts_give_the_same_curve(monkeypatch):
    metrics, random = PixelMetrics(), np.random.default_rng(1)
    for index in range(3):
        label = (random.random((40, 50)) < 0.2).astype(np.uint8)
        metrics.update(str(index), random.normal(label == 1, 1).astype(np.float32), label)
    whole = metrics.compute().curve
    monkeypatch.setattr(exact, "STRIDE", 2)
    monkeypatch.setattr(exact, "BLOCK", 30)
    monkeypatch.setattr(exact, "BLOCKS", 10**6)
    assert metrics.compute().curve == whole


def test_no_curve_without_both_kinds():
    thinned = ThinnedCurve()
    thinned.add(operating_points(np.empty(0), np.ones(3)))
    thinned.add(operating_points(np.ones(3), np.empty(0)))
    assert thinned.curve().tpr == ()
