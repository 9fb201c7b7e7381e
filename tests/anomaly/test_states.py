"""States of accumulators: the same values after a round trip, in any parts and any order, and refused if damaged."""

import copy
import json
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.datasets.fingerprint import Fingerprint
from anomaly.errors import InputError
from anomaly.metrics import ComponentMetrics
from anomaly.results.remarks import SeenValues
from tests.anomaly.test_distributed_metrics import CHOSEN, FRAMES, MAKERS, SMALL, add, computed, filled, frame

KINDS = [pytest.param(kind, marks=[pytest.mark.slow] if kind == "binned" else []) for kind in (*MAKERS, "matched")]


def made(kind, indices):
    """Metrics of a kind; the matched ones at a threshold that all parts share."""
    if kind != "matched":
        return filled(kind, indices)
    return filled("components at best F1", indices).matched(0.25)


def written(metrics):
    header, arrays = metrics.state()
    return json.dumps(header), [array.copy() for array in arrays]


def restored(metrics):
    """What another process has of metrics."""
    header, arrays = written(metrics)
    return type(metrics).from_state(json.loads(header), iter(arrays))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, FRAMES - 1), max_size=2 * FRAMES), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_parts_in_any_order_are_the_whole(kind, indices, number, seed):
    """Frames may be in several parts and twice in one, and a part may have none."""
    shuffle = random.Random(seed)
    parts = [[] for _ in range(number)]
    for index in indices:
        parts[shuffle.randrange(number)].append(index)
    first, *others = [restored(made(kind, part)) for part in parts]
    for other in others:
        first.merge(other)
    expected = made(kind, sorted({*indices}))
    np.testing.assert_equal(computed(first), computed(expected))
    np.testing.assert_equal(computed(restored(first)), computed(expected))
    if indices:
        add(first, [frame(indices[0])])  # a frame is known in what was restored
        np.testing.assert_equal(computed(first), computed(expected))
        with pytest.raises(InputError, match="was seen before with"):
            add(first, [(f"frame{indices[0]}", *frame(FRAMES)[1:])])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_state_keeps_every_setting(kind):
    metrics = filled(kind, [0])
    (header, arrays), (expected, others) = written(restored(metrics)), written(metrics)
    assert header == expected
    for array, other in zip(arrays, others, strict=True):
        assert (array.dtype, array.tolist()) == (other.dtype, other.tolist())
    settings = json.loads(header)["settings"]
    assert (settings["name"], settings["dataset"]) == ("msp", "road")
    if kind == "open-world IoU at a chosen threshold":
        assert restored(metrics).threshold == CHOSEN


def test_matched_metrics_are_those_at_the_threshold():
    kept = filled("components at best F1", range(FRAMES))
    expected = computed(kept)
    for found in (kept.matched(expected["threshold"]), pickle.loads(pickle.dumps(kept.matched(expected["threshold"])))):
        np.testing.assert_equal(computed(found), expected)
    np.testing.assert_equal(computed(kept), expected)
    with pytest.raises(InputError, match="matched: expected component metrics with the threshold 'best_f1'"):
        kept.matched(0.5).matched(0.5)
    with pytest.raises(InputError, match="best_f1_threshold: expected a score, found nan"):
        kept.matched(float("nan"))
    with pytest.raises(InputError, match="cannot merge component metrics with threshold_from 'best_f1'"):
        filled("components", [0]).merge(filled("components at best F1", [1]).matched(0.5))


def test_a_threshold_without_a_level_equals_its_copies():
    copies = (copy.deepcopy(CHOSEN), pickle.loads(pickle.dumps(CHOSEN)))
    assert all(each == CHOSEN and hash(each) == hash(CHOSEN) for each in copies)
    metrics = filled("open-world IoU", [0], at=CHOSEN)
    metrics.merge(pickle.loads(pickle.dumps(filled("open-world IoU", [1], at=CHOSEN))))
    np.testing.assert_equal(computed(metrics), computed(filled("open-world IoU", [0, 1], at=CHOSEN)))


def tampered(kind, header=(), array=None, at=0):
    """A state of one frame with other entries, or another array."""
    metrics = filled(kind, [0])
    found, arrays = written(metrics)
    found = json.loads(found)
    for place, value in header:
        (found["settings"] if place in found["settings"] else found)[place] = value
    if array is not None:
        arrays[at] = array(arrays[at])
    return type(metrics), found, iter(arrays)


@pytest.mark.parametrize("kind", ["components", "components at best F1", "open-world IoU"])
@pytest.mark.parametrize(
    "header",
    [
        [("name", 3)],
        [("frames", [["frame0", 1, 2]])],
        [("frames", [["frame0", 1, 2, -3]])],
        [("frames", [["frame0", 1, 2, 3.0]])],
        [("frames", [["another", 1, 2, 3]])],
        [("frames", [[0, 1, 2, 3]]), ("keys", {"0": [1, 0.0, 1.0]})],
        [("keys", {})],
        [("keys", {"frame0": [1, 0.0, -1.0]})],
        [("threshold", "best")],
        [("threshold", float("nan"))],
    ],
)
def test_other_headers_are_refused(kind, header):
    cls, found, arrays = tampered(kind, header)
    with pytest.raises((ValueError, TypeError)):
        cls.from_state(found, arrays)


@pytest.mark.parametrize(
    ("kind", "at", "array"),
    [
        ("components", 0, np.float32),
        ("components", 0, lambda values: values + 1),
        ("components", 1, lambda values: values * np.nan),
        ("components", 1, lambda values: np.append(values, 0.5)),
        ("components", 2, lambda values: values[:, None]),
        ("components at best F1", 0, lambda scores: scores * np.nan),
        ("components at best F1", 0, lambda scores: scores[1:]),
        ("components at best F1", 1, lambda label: label + 2),
        ("components at best F1", 1, lambda label: np.zeros_like(label)),
        ("open-world IoU", 0, np.int64),
        ("open-world IoU", 0, lambda places: places[::-1].copy()),
        ("open-world IoU", 0, lambda places: places - 1),
        ("open-world IoU", 0, lambda places: places + 100),
        ("open-world IoU", 0, lambda places: places[1:]),
        ("open-world IoU", 1, lambda counts: counts - counts.min()),
        ("open-world IoU", 1, lambda counts: counts + 1),
        ("open-world IoU", 1, np.float64),
    ],
)
def test_other_arrays_are_refused(kind, at, array):
    cls, found, arrays = tampered(kind, array=array, at=at)
    with pytest.raises(ValueError, match="frame"):
        cls.from_state(found, arrays)


def test_a_state_with_too_few_arrays_is_refused():
    for kind in ("components", "components at best F1", "open-world IoU"):
        cls, found, arrays = tampered(kind)
        with pytest.raises(StopIteration):
            cls.from_state(found, iter(list(arrays)[:-1]))


def test_restored_score_maps_are_in_the_folder_that_is_named(tmp_path):
    _, header, arrays = tampered("components at best F1")
    with pytest.raises(InputError, match="gone: expected a folder for temporary files"):
        ComponentMetrics.from_state(header, arrays, spill_dir=tmp_path / "gone")
    assert ComponentMetrics(SMALL, spill_dir=tmp_path).matched(0.5).spill_dir == tmp_path


@pytest.mark.parametrize("number", [1, 2, 3])
def test_fingerprints_of_parts_are_that_of_the_whole(number):
    whole, parts = Fingerprint(), [Fingerprint() for _ in range(number)]
    for index in range(FRAMES):
        name, _, label, *_ = frame(index)
        whole.add(name, label)
        parts[index % number].add(name, label)
        parts[0].add(name, label)  # in both
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].hexdigest() == whole.hexdigest()


def test_fingerprints_refuse_another_label_of_a_name_in_a_part():
    one, other = Fingerprint(), Fingerprint()
    one.add("b", frame(0)[2])
    other.add("a", frame(0)[2])
    other.add("b", frame(1)[2])
    before = one.hexdigest()
    with pytest.raises(InputError, match="frame 'b' was seen before with another label"):
        one.merge(other)
    assert one.hexdigest() == before


def test_seen_values_of_parts_are_those_of_the_whole():
    """One frame is constant, which only its part knows; the dataset is not, which no part knows."""
    label = np.zeros((2, 2), np.uint8)
    frames = [("a", np.full((2, 2), 1.0)), ("b", np.full((2, 2), 2.0)), ("c", np.float64([[0, 1], [2, 3]]))]
    parts = [SeenValues(), SeenValues(), SeenValues(), SeenValues()]
    for part, (name, score) in zip(parts, frames, strict=False):
        part.add(name, score, label)
    assert "all values are equal" in parts[0].remarks(0.9)[0]
    for part in reversed(parts[1:]):
        parts[0].merge(part)
    (remark,) = parts[0].remarks(0.9)
    assert "in 2 of 3 frames, such as 'a', all values are equal" in remark
    assert "all values are equal (2)" in parts[1].remarks(0.9)[0]  # it does not change
