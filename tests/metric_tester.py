"""What every metric with update / merge / compute / reset must do, checked once for all.

Inherit ``MetricTester``, give ``make`` and ``oracle`` and name the metrics that depend on ranks alone.
"""

import functools
import warnings
from dataclasses import asdict

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.metrics import UndefinedMetricWarning

DTYPES = (np.float16, np.float32, np.float64)


@st.composite
def frame_lists(draw, dtypes=DTYPES):
    """A few small frames (id, score, label) of one type, scores on a coarse grid so that many tie."""
    dtype = draw(st.sampled_from(dtypes))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 3, 40]))
    frames = []
    for index in range(draw(st.integers(1, 5))):
        size = tuple(random.integers(1, 7, 2))
        score = (random.integers(-levels, levels + 1, size) / 8).astype(dtype)
        label = random.choice([0, 0, 0, 1, 255], size).astype(np.uint8)
        frames.append((f"frame{index}", score, label))
    return frames


def property_test(**strategies):
    """``given`` for a method that several testers inherit."""
    configure = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    return lambda test: configure(given(**strategies)(test))


class MetricTester:
    ranking_values: tuple[str, ...] = ()
    unbounded: frozenset[str] = frozenset()

    def make(self):
        raise NotImplementedError

    def oracle(self, frames):
        """The result's fields by name, from a list of frames, by other means."""
        raise NotImplementedError

    def filled(self, frames):
        metric = self.make()
        for frame in frames:
            metric.update(*frame)
        return metric

    def values(self, metric):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            return asdict(metric.compute())

    def same(self, found, expected):
        """All that the oracle gives; where there are bounds, both the exact value and the one given lie in them."""
        for name in expected.keys() - {"values"}:
            assert found[name] == expected[name], name
        assert found["values"].keys() == expected["values"].keys()
        for name in expected["values"].keys() - self.unbounded:
            value, given = expected["values"][name], found["values"][name]
            low, high = found["bounds"].get(name, (given, given))
            assert np.isnan(value) == np.isnan(given) == np.isnan(low) == np.isnan(high), name
            assert np.isnan(value) or low - 1e-12 <= value <= high + 1e-12, name
            assert np.isnan(value) or low <= given <= high, name

    @property_test(frames=frame_lists())
    def test_equals_oracle(self, frames):
        self.same(self.values(self.filled(frames)), self.oracle(frames))

    @property_test(frames=frame_lists(), data=st.data())
    def test_merged_in_any_order_and_grouping_equals_whole(self, frames, data):
        owners = data.draw(st.lists(st.integers(0, 3), min_size=len(frames), max_size=len(frames)))
        parts = [self.filled([f for f, owner in zip(frames, owners, strict=True) if owner == i]) for i in range(4)]
        parts = data.draw(st.permutations(parts))

        def merge(left, right):
            left.merge(right)
            return left

        if data.draw(st.booleans()):
            merged = functools.reduce(merge, parts)
        else:
            merged = merge(merge(parts[0], parts[1]), merge(parts[2], parts[3]))
        np.testing.assert_equal(self.values(merged), self.values(self.filled(frames)))
        self.same(self.values(merged), self.oracle(frames))

    @property_test(frames=frame_lists())
    def test_duplicates_count_once(self, frames):
        metric = self.filled([*frames, *frames[:2]])
        metric.merge(self.filled(frames[-2:]))
        self.same(self.values(metric), self.oracle(frames))

    @property_test(frames=frame_lists())
    def test_ranks_alone_count(self, frames):
        """Steps of 1/8 stay apart under the exponential function in each type."""
        before = self.values(self.filled(frames))
        after = self.values(self.filled([(name, np.exp(score), label) for name, score, label in frames]))
        for name in self.ranking_values:
            np.testing.assert_equal(after["values"][name], before["values"][name], err_msg=name)

    def test_keeps_the_resolution_of_its_input(self):
        """Neighbours in each type stay apart, alone and beside a coarser type."""
        label = np.array([[0, 1]], np.uint8)
        for dtype in DTYPES:
            score = np.array([[1, np.nextafter(dtype(1), dtype(2))]], dtype)
            coarse = ("coarse", np.zeros((1, 1), np.float16), np.zeros((1, 1), np.uint8))
            for frames in ([("a", score, label)], [coarse, ("a", score, label)]):
                self.same(self.values(self.filled(frames)), self.oracle(frames))

    @property_test(frames=frame_lists())
    def test_reset_forgets_and_compute_does_not(self, frames):
        metric = self.filled(frames)
        first = self.values(metric)
        np.testing.assert_equal(self.values(metric), first)
        metric.reset()
        metric.update(*frames[0])
        self.same(self.values(metric), self.oracle(frames[:1]))

    @property_test(frames=frame_lists())
    def test_leaves_its_input_alone_and_does_not_share_it(self, frames):
        copies = [(name, score.copy(), label.copy()) for name, score, label in frames]
        metric = self.filled(copies)
        self.values(metric)
        for (_, score, label), (_, used_score, used_label) in zip(frames, copies, strict=True):
            np.testing.assert_array_equal(used_score, score)
            np.testing.assert_array_equal(used_label, label)
            used_score[...] = 7
        self.same(self.values(metric), self.oracle(frames))
