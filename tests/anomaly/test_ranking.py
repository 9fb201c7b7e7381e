import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomaly.errors import InputError
from anomaly.metrics import UndefinedMetricWarning
from anomaly.metrics.functional import ranking
from anomaly.metrics.functional.curve import operating_points


def auroc(known, anomaly):
    return ranking.auroc(operating_points(known, anomaly))


def average_precision(known, anomaly):
    return ranking.average_precision(operating_points(known, anomaly))


def fpr_at_tpr(known, anomaly, tpr=0.95):
    return ranking.fpr_at_tpr(operating_points(known, anomaly), tpr)


FUNCTIONS = (auroc, average_precision, fpr_at_tpr)
NONE = np.empty(0, np.float32)


def sklearn_fpr(label, score, tpr):
    fprs, tprs, _ = roc_curve(label, score, drop_intermediate=False)
    return fprs[np.argmax(tprs >= tpr)]


def draw(seed, dtype, ties):
    random = np.random.default_rng(seed)
    known = random.normal(0, 20, 5000)
    anomaly = random.normal(15, 30, 400)
    if ties:
        known, anomaly = known.round(), anomaly.round()
    return np.sort(known.astype(dtype)), np.sort(anomaly.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed, dtype, ties):
    known, anomaly = draw(seed, dtype, ties)
    label = np.r_[np.zeros(known.size), np.ones(anomaly.size)]
    score = np.r_[known, anomaly].astype(np.float64)
    assert auroc(known, anomaly) == pytest.approx(roc_auc_score(label, score), abs=1e-9, rel=0)
    expected = average_precision_score(label, score)
    assert average_precision(known, anomaly) == pytest.approx(expected, abs=1e-9, rel=0)
    for tpr in (0.01, 0.3, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert fpr_at_tpr(known, anomaly, tpr) == pytest.approx(sklearn_fpr(label, score, tpr), abs=1e-12)


def test_types_may_differ():
    known, anomaly = draw(0, np.float64, ties=False)
    known = np.sort(known.astype(np.float32))
    expected = roc_auc_score(np.r_[np.zeros(5000), np.ones(400)], np.r_[known.astype(np.float64), anomaly])
    assert auroc(known, anomaly) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("tpr", "found", "positives"),
    [(0.95, 19, 20), (0.95, 133, 140), (0.95, 11723, 12340), (0.55, 55, 100), (0.07, 7, 100), (0.9, 27, 30)],
)
def test_a_level_reached_exactly_is_reached(tpr, found, positives):
    """19 of 20 are a TPR of 0.95, and 55 of 100 one of 0.55, although 0.55 * 100 > 55 in float64."""
    anomaly = np.r_[np.zeros(positives - found), np.full(found, 2.0)]
    known = np.array([1.0, 1.0, 1.0, 3.0])
    assert fpr_at_tpr(known, anomaly, tpr) == 0.25
    label = np.r_[np.zeros(4), np.ones(positives)]
    assert sklearn_fpr(label, np.r_[known, anomaly], tpr) == 0.25
    one_less = np.sort(np.r_[anomaly[:-1], 0.0])
    assert fpr_at_tpr(known, one_less, tpr) == 1.0


def test_average_precision_is_no_trapezoid():
    """Two anomalies around one known pixel: steps give (1 + 2/3) / 2; the trapezoid would give less."""
    assert average_precision(np.array([2.0]), np.array([1.0, 3.0])) == pytest.approx(5 / 6, abs=1e-12)


def test_counts_do_not_round():
    """More known pixels than float32 counts one by one (2**24); the top one outscores an anomaly."""
    known = np.zeros(2**24 + 3, np.float16)
    known[-1] = 1
    anomaly = np.array([0.5, 2.0], np.float16)
    assert auroc(known, anomaly) == 1 - 1 / (2 * known.size)
    assert fpr_at_tpr(known, anomaly) == 1 / known.size
    assert average_precision(known, anomaly) == (1 + 2 / 3) / 2
    assert fpr_at_tpr(known, np.array([-1.0])) == 1.0
    assert average_precision(known, np.array([-1.0])) == 1 / (known.size + 1)


def test_operating_points():
    points = operating_points(np.array([0.0, 1.0, 2.0, 2.0]), np.array([-1.0, 2.0, 2.0, 5.0]))
    np.testing.assert_array_equal(points.thresholds, [5, 2, -1])
    np.testing.assert_array_equal(points.tp, [1, 3, 4])
    np.testing.assert_array_equal(points.fp, [0, 2, 4])
    np.testing.assert_array_equal(points.ties, [0, 2, 0])
    assert (points.num_known, points.num_anomaly) == (4, 4)
    assert points.tp.dtype == points.fp.dtype == np.int64
    assert operating_points(np.ones(3), NONE).thresholds.size == 0


def test_signed_zeros_tie():
    assert auroc(np.array([-0.0]), np.array([0.0])) == 0.5
    assert auroc(np.array([0.0]), np.array([-0.0])) == 0.5


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("known", "anomaly"), [(NONE, NONE), (np.ones(2), NONE), (NONE, np.ones(2))])
def test_undefined_is_nan_with_a_warning(function, known, anomaly):
    with pytest.warns(UndefinedMetricWarning, match="there are no") as caught:
        assert math.isnan(function(known, anomaly))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for name, scores in (("known", known), ("anomaly", anomaly)):
        assert (name in str(caught[0].message)) == (scores.size == 0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", [np.array([2.0, 1.0]), np.array([1.0, np.nan]), np.ones((2, 2))])
def test_unsorted_lists_are_refused(function, bad):
    good = np.array([0.0, 1.0])
    with pytest.raises(InputError, match="known: expected a 1-D array of ascending scores"):
        function(bad, good)
    with pytest.raises(InputError, match="anomaly: expected a 1-D array of ascending scores"):
        function(good, bad)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.01, 95, math.nan])
def test_levels_out_of_range_are_refused(tpr):
    with pytest.raises(InputError, match="tpr: expected a fraction"):
        fpr_at_tpr(np.ones(1), np.ones(1), tpr)
