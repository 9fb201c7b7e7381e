"""Numbers, switches and texts as users give them, and what is written of them."""

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.metrics import ComponentMetrics, OpenIoUMetrics, PixelMetrics
from anomaly.metrics.bands import curve_bands
from anomaly.metrics.bootstrap import FrameTable, bootstrap, holm, paired_bootstrap
from anomaly.metrics.calibration import Threshold, check_level, choose_threshold
from anomaly.metrics.functional.components import TRACKS, Track
from anomaly.metrics.functional.curve import operating_points
from anomaly.metrics.functional.ranking import fpr_at_tpr, recall_at_fpr
from anomaly.models.tiling import Inference
from anomaly.report.views import ViewCallback
from anomaly.utils.given import choice, number, plain, real, switch, text, whole


class Thing:
    """No number, and named alike in every process."""

    def __repr__(self):
        return "a thing"


FORMS = {
    "float": float,
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "array": np.array,
    "array of float32": lambda x: np.array(x, np.float32),
    "tensor": torch.tensor,
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "with a gradient": lambda x: torch.tensor(x, requires_grad=True),
    "longdouble": np.longdouble,
}
INTS = {
    "int": int,
    "float": float,
    "int64": np.int64,
    "uint8": np.uint8,
    "array": np.array,
    "tensor": torch.tensor,
    "float64": np.float64,
}
NO_NUMBERS = [
    *(True, np.True_, torch.tensor(True), "0.5", np.str_("0.5"), b"1", None, [0.5], np.array([0.5]), torch.ones(1)),
    *(1j, np.complex64(1), Decimal("0.5"), Fraction(1, 2), np.ma.masked, np.ma.array(0.5), np.timedelta64(5, "ns")),
    *(np.array("0.5"), np.array(0.5, object), torch.zeros((), device="meta"), Thing()),
]


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_a_real_number_keeps_its_value(make):
    for value in (0.5, -3.25, 1024.0):
        found = real("x", make(value))
        assert type(found) is float
        assert found == value
    assert type(number(make(0.5))) is float


@pytest.mark.parametrize("make", INTS.values(), ids=INTS)
def test_a_whole_number_is_an_int(make):
    found = whole("x", make(7))
    assert type(found) is int
    assert found == 7


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: f"{type(value).__name__} {value!r}"[:40])
def test_what_is_no_number_is_refused(value):
    assert number(value) is None
    for take in (real, whole):
        with pytest.raises(InputError, match=r"^x: expected .*; give a Python (float|int)$"):
            take("x", value)


def test_a_float_must_hold_the_number():
    assert real("x", 2**53) == 2**53
    for value in (2**53 + 1, 10**400, np.longdouble(1) / 3):
        with pytest.raises(InputError, match="x: expected a number, found"):
            real("x", value)
    assert math.isnan(real("x", np.float32("nan")))
    for value in (math.nan, np.float32("inf")):
        with pytest.raises(InputError, match="x: expected a number, found"):
            real("x", value, finite=True)
        with pytest.raises(InputError, match="x: expected a whole number"):
            whole("x", value)
    for value, least in ((0.5, None), (np.float32(2.5), None), (0, 1)):
        with pytest.raises(InputError, match="x: expected a whole number, found"):
            whole("x", value, least)


def test_switches_texts_and_choices():
    assert switch("x", np.True_) is True
    for value in ("no", 1, None, np.array([True])):
        with pytest.raises(InputError, match="x: expected True or False"):
            switch("x", value)
    assert type(text("x", np.str_("a"))) is str
    for value in (7, np.int64(7), b"a", Path("a"), None, "a\udc80"):
        with pytest.raises(InputError, match="x: expected a"):
            text("x", value)
    assert choice("x", np.str_("a"), ("a", "b")) == "a"
    with pytest.raises(InputError, match="x: expected one of a, b, found 'c'"):
        choice("x", "c", ("a", "b"))


@dataclass
class Nested:
    size: object
    where: object


def test_plain_keeps_values_and_names_what_it_refuses():
    value = {
        "numbers": (np.float32(0.1), np.int64(3), np.array(2.5), torch.tensor(4), np.nan, np.bool_(False), None, True),
        "nested": Nested(np.uint8(9), Path("a") / "b"),
        3: np.str_("text"),
    }
    found = plain(value)
    assert found["numbers"][:4] == [float(np.float32(0.1)), 3, 2.5, 4]
    assert {type(each) for each in found["numbers"]} == {float, int, bool, type(None)}
    assert found["nested"] == {"size": 9, "where": "a/b"}
    assert found["3"] == "text"
    for wrong, where in (
        ({"a": [1, {"b": np.zeros(2)}]}, r"a\[1\]\.b: expected a value that JSON can represent .*ndarray"),
        ({"a": {1: 0, "1": 0}}, r"a: expected every key once, found '1' twice"),
        ({"a": {(1, 2): 0}}, r"a: expected keys of type str"),
        ({"a": {1, 2}}, r"a: expected a value"),
        ({"a": np.ma.masked}, r"a: expected a value"),
        ({"a": Nested(Thing(), 0)}, r"a\.size: expected a value"),
    ):
        with pytest.raises(InputError, match=f"^{where}"):
            plain(wrong)


def frames(count=6):
    random = np.random.default_rng(0)
    for index in range(count):
        label = random.choice([0, 0, 0, 1, 255], (20, 30)).astype(np.uint8)
        yield f"f{index}", random.normal(label == 1, 1).astype(np.float32), label


def filled(**settings):
    metrics = PixelMetrics(**settings)
    for frame in frames():
        metrics.update(*frame)
    return metrics


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
class TestEveryNumberOfTheMetrics:
    """Any type of number gives what the Python number of its value gives, to the last bit, and can be saved."""

    def test_pixels(self, make, tmp_path):
        given = filled(threshold=make(0.5), tpr=make(0.75), fpr=make(0.25))
        expected = filled(threshold=0.5, tpr=0.75, fpr=0.25)
        assert given.compute() == expected.compute()
        given.save(tmp_path / "state.npz")
        assert PixelMetrics.load(tmp_path / "state.npz").compute() == expected.compute()
        given.merge(expected)
        points = operating_points(np.arange(4.0), np.arange(2.0, 6.0))
        assert fpr_at_tpr(points, make(0.5)) == fpr_at_tpr(points, 0.5)
        assert recall_at_fpr(points, make(0.25)) == recall_at_fpr(points, 0.25)

    def test_components(self, make):
        expected, given, best = (
            ComponentMetrics(Track("t", 2, 2), threshold) for threshold in (0.5, make(0.5), "best_f1")
        )
        for metrics in (expected, given, best):
            for frame in frames():
                metrics.update(*frame)
        expected.merge(given)
        assert given.compute().values == best.compute(make(0.5)).values == expected.compute().values
        assert type(given.compute().threshold) is float

    def test_open_iou(self, make):
        results = []
        for threshold in (0.5, make(0.5), Threshold(make(0.5), "tpr", make(0.75), "score", "other")):
            metrics = OpenIoUMetrics(("a", "b"), threshold)
            for name, score, label in frames():
                metrics.update(name, label * 0, score, label, label * 0)
            results.append(metrics.compute())
        assert results[0].values == results[1].values == results[2].values
        assert all(type(result.threshold) is float for result in results)

    def test_calibration_and_draws(self, make):
        metrics = filled()
        assert choose_threshold(metrics, "tpr", make(0.75)) == choose_threshold(metrics, "tpr", 0.75)
        assert type(check_level("fpr", make(0.25))) is float
        table = FrameTable.of(metrics)
        assert bootstrap(table, replicates=50, level=make(0.75)) == bootstrap(table, replicates=50, level=0.75)
        assert holm({"a": make(0.5)}) == {"a": 0.5}

    def test_settings(self, make):
        assert Inference(scales=(make(0.5),)).record() == Inference(scales=(0.5,)).record()
        assert type(Inference(scales=[make(0.5)]).scales[0]) is float
        assert MetricConfig(track=TRACKS["obstacle_track"], components_at=make(0.5)).components_at == 0.5


@pytest.mark.parametrize("make", INTS.values(), ids=INTS)
def test_every_whole_number(make, tmp_path):
    table = FrameTable.of(filled())
    draws = {"replicates": make(50), "seed": make(3)}
    assert bootstrap(table, **draws) == bootstrap(table, replicates=50, seed=3)
    assert curve_bands(table, **draws) == curve_bands(table, replicates=50, seed=3)
    assert paired_bootstrap(table, table, **draws)["ap"].difference == 0
    assert Track("t", make(5), make(3)) == Track("t", 5, 3)
    assert type(Track("t", make(5), make(3)).min_truth) is int
    given = Inference((make(64), make(32)), (make(16), make(8)), batch=make(4))
    assert given == Inference((64, 32), (16, 8), batch=4)
    assert {type(side) for side in (*given.window, *given.stride, given.batch)} == {int}
    config = MetricConfig(replicates=make(100), memory_budget=make(99))
    assert (type(config.replicates), type(config.memory_budget)) == (int, int)
    PixelMetrics(memory_budget=make(99))
    ViewCallback(tmp_path, make(2))


def test_pixels_are_counted_at_thresholds_of_any_kind():
    metrics, values = filled(), [-0.5, 0.25, 1.0]
    expected = [
        [int((score[label == kind] >= t).sum()) for t in values] for kind in (1, 0) for _, score, label in frames()
    ]
    expected = np.array(expected).reshape(2, -1, 3).sum(1)
    for make in (list, np.array, np.float16, np.float32, torch.tensor, lambda x: [np.float32(each) for each in x]):
        np.testing.assert_array_equal(metrics.counts_at(make(values)), expected)
    for bad in ([math.nan], ["0.5"], [True], [[0.5]], np.ma.array([0.5], mask=[True])):
        with pytest.raises(InputError, match="thresholds: expected"):
            metrics.counts_at(bad)


def test_sides_may_be_an_array():
    assert Inference(np.array([64, 32]), torch.tensor([16, 8])) == Inference((64, 32), (16, 8))


REFUSED = {
    "threshold": lambda bad: PixelMetrics(threshold=bad),
    "tpr": lambda bad: PixelMetrics(tpr=bad),
    "fpr": lambda bad: PixelMetrics(fpr=bad),
    "memory_budget": lambda bad: PixelMetrics(memory_budget=bad),
    "component threshold": lambda bad: ComponentMetrics(TRACKS["obstacle_track"], bad),
    "best_f1_threshold": lambda bad: ComponentMetrics(TRACKS["obstacle_track"]).compute(bad),
    "open threshold": lambda bad: OpenIoUMetrics(("a",), bad),
    "value of a Threshold": lambda bad: Threshold(bad, "tpr", 0.5, "score", "set"),
    "level of a Threshold": lambda bad: Threshold(0.5, "tpr", bad, "score", "set"),
    "check_level": lambda bad: check_level("tpr", bad),
    "track": lambda bad: Track("t", bad, 0),
    "window": lambda bad: Inference(window=(bad, 4)),
    "scales": lambda bad: Inference(scales=(bad,)),
    "all scales": lambda bad: Inference(scales=bad),
    "batch": lambda bad: Inference(batch=bad),
    "replicates of the metrics": lambda bad: MetricConfig(replicates=bad),
    "components_at": lambda bad: MetricConfig(components_at=bad),
    "memory of the metrics": lambda bad: MetricConfig(memory_budget=bad),
    "frames of a report": lambda bad: ViewCallback(Path("nowhere"), bad),
    "limit": lambda bad: Dataset.limit(None, bad),
    "p-value": lambda bad: holm({"a": bad}),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("bad", [True, np.True_, "0.5", np.ma.masked, 1j, Thing()], ids=repr)
def test_what_is_no_number_is_refused_everywhere(call, bad):
    with pytest.raises(InputError):
        call(bad)


def test_draws_refuse_what_is_no_number():
    table = FrameTable.of(filled())
    for draw in (bootstrap, curve_bands, lambda table, **settings: paired_bootstrap(table, table, **settings)):
        for settings in ({"replicates": True}, {"replicates": 2.5}, {"seed": -1}, {"seed": None}, {"level": "0.9"}):
            with pytest.raises(InputError, match=next(iter(settings))):
                draw(table, **settings)


def test_words_are_checked_when_they_are_given():
    """Each of these once gave a number, or an error that named nothing."""
    for make, message in (
        (lambda: Inference(resolution="inputs"), "resolution: expected one of features, input"),
        (lambda: Inference(precision="bf16"), "precision: expected one of float32, bfloat16"),
        (lambda: Inference(flip="no"), "flip: expected True or False"),
        (lambda: MetricConfig(curves="no"), "curves: expected True or False"),
        (lambda: MetricConfig(components_at="best"), "threshold: expected a finite score or 'best_f1'"),
        (lambda: Calibration(None, "f1"), "rule: expected one of tpr, fpr, best_f1"),
        (lambda: Threshold(0.5, "f1", 0.5, "score", "set"), "rule: expected one of"),
        (lambda: Threshold(math.nan, "tpr", 0.5, "score", "set"), "threshold: expected a score, found nan"),
        (lambda: PixelMetrics(7), "name: expected a str"),
        (lambda: PixelMetrics(dataset=Path("a")), "dataset: expected a str"),
        (lambda: ComponentMetrics(TRACKS["obstacle_track"], name=7), "name: expected a str"),
        (lambda: OpenIoUMetrics("abc", 0.5), "classes: expected a list of distinct names"),
        (lambda: OpenIoUMetrics((1, 2), 0.5), "classes: expected a str"),
    ):
        with pytest.raises(InputError, match=message):
            make()
    assert Inference(flip=np.True_).record()["flip"] is True


@pytest.mark.parametrize("score_type", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threshold_type", [np.float16, np.float32, np.float64, float, torch.tensor])
@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_a_threshold_flags_the_pixels_that_exact_numbers_say(score_type, threshold_type, value):
    """Whatever the types: 0.7 lies between float32's neighbours, and np.float32(0.7) is one of them."""
    threshold = threshold_type(value)
    near = [
        score_type(value),
        np.nextafter(score_type(value), score_type(0)),
        np.nextafter(score_type(value), score_type(1)),
    ]
    score, label = np.array([near * 2], score_type), np.array([[0, 0, 0, 1, 1, 1]], np.uint8)
    flagged = [Fraction(float(each)) >= Fraction(float(threshold)) for each in near]
    tp = sum(flagged)
    expected = {"f1": 2 * tp / (2 * tp + 3), "iou": tp / (tp + 3)}  # as many known pixels as anomalies are called
    pixels = PixelMetrics(threshold=threshold)
    binned = PixelMetrics(threshold=threshold, mode="binned")
    for metrics in (pixels, binned):
        metrics.update("a", score, label)
        assert {name: metrics.compute()[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert pixels.compute().per_frame["a"]["iou"] == pytest.approx(expected["iou"])
    opened = OpenIoUMetrics(("k",), threshold)
    opened.update("a", label * 0, score, label, label * 0)
    assert opened.compute()["tpr"] == opened.compute()["fpr"] == tp / 3
    components = ComponentMetrics(Track("t", 0, 0), threshold)
    components.update("a", score[:, 3:], label[:, 3:])
    assert components.compute()["siou"] == pytest.approx(tp / 3)
