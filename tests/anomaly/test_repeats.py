"""A frame seen again counts once; another frame of its name, or other scores of it, are refused by name."""

import json
import time

import numpy as np
import pytest

from anomaly.datasets.fingerprint import Fingerprint
from anomaly.errors import InputError
from anomaly.metrics import ComponentMetrics, OpenIoUMetrics, PixelMetrics, binned
from anomaly.metrics.functional.components import Track
from anomaly.metrics.measured import FrameCounts
from anomaly.metrics.repeats import SAMPLE, FrameKey, sample_places
from anomaly.utils import state_file

SIZE = (60, 90)
WAYS = r"give each its own name, such as its path; .* call reset\(\) between the two passes"


def frame(seed, size=SIZE):
    random = np.random.default_rng(seed)
    label = random.choice([0, 0, 0, 1, 255], size).astype(np.uint8)
    return random.normal(label == 1, 1).astype(np.float32), label


class Pixels:
    make = staticmethod(lambda: PixelMetrics("msp", dataset="road"))

    @staticmethod
    def update(metrics, name, score, label):
        metrics.update(name, score, label)


class Binned(Pixels):
    make = staticmethod(lambda: PixelMetrics("msp", dataset="road", mode="binned"))


class Components(Pixels):
    make = staticmethod(lambda: ComponentMetrics(Track("t", 2, 2), 0.5))


class Best(Pixels):
    make = staticmethod(lambda: ComponentMetrics(Track("t", 2, 2)))


class Open:
    make = staticmethod(lambda: OpenIoUMetrics(("a",), 0.5))

    @staticmethod
    def update(metrics, name, score, label):
        metrics.update(name, label * 0, score, label, label * 0)


@pytest.fixture(params=[Pixels, Binned, Components, Best, Open], ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def filled(kind, **frames):
    metrics = kind.make()
    for name, (score, label) in frames.items():
        kind.update(metrics, name, score, label)
    return metrics


def test_the_same_frame_counts_once_even_from_another_batch(kind):
    """Float noise, the rounding of bfloat16 and another type are no other frame."""
    score, label = frame(0)
    noise = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
    rounded = (score.view(np.int32) & np.int32(-65536)).view(np.float32)  # the upper half of the bits
    expected = filled(kind, a=(score, label), b=frame(1)).compute().values
    for again in (score, score + 1e-4 * noise, rounded, score.astype(np.float64)):
        metrics = filled(kind, a=(score, label), b=frame(1))
        kind.update(metrics, "a", again, label)
        metrics.merge(filled(kind, a=(again, label)))
        assert metrics.compute().values == expected
        assert metrics.compute().frames == 2


def moved(label):
    """As many pixels of each kind, elsewhere."""
    return np.roll(label, 7, axis=1)


def one_more(label):
    """A single pixel of another kind, seen by no sample."""
    changed = label.copy()
    changed[tuple(np.argwhere(label == 0)[-1])] = 1
    return changed


OTHERS = {
    "another frame": (lambda score, label: frame(1), "another label"),
    "another size": (lambda score, label: frame(0, SIZE[::-1]), "another label"),
    "another shape of the same pixels": (lambda s, x: (s.reshape(SIZE[::-1]), x.reshape(SIZE[::-1])), "another label"),
    "another label of the same counts": (lambda score, label: (score, moved(label)), "another label"),
    "one pixel of another label": (lambda score, label: (score, one_more(label)), "another label"),
    "other scores": (lambda score, label: (score + 0.1, label), "other scores"),
    "scores of another scale": (lambda score, label: (1.1 * score, label), "other scores"),
    "scores of another sign": (lambda score, label: (-score, label), "other scores"),
}


@pytest.mark.parametrize(("change", "fault"), OTHERS.values(), ids=OTHERS)
def test_another_frame_of_the_name_is_refused(kind, change, fault):
    score, label = frame(0)
    metrics = filled(kind, a=(score, label), b=frame(2))
    expected = metrics.compute().values
    with pytest.raises(
        InputError, match=rf"frame 'a' was seen before with {fault} .*; if these are two frames.*{WAYS}"
    ):
        kind.update(metrics, "a", *change(score, label))
    with pytest.raises(InputError, match=rf"cannot merge: frame 'a' is in both parts, with {fault} .*{WAYS}"):
        metrics.merge(filled(kind, c=frame(3), a=change(score, label)))
    assert metrics.compute().values == expected
    assert metrics.compute().frames == 2


def test_a_forgotten_reset_is_found_and_a_reset_forgets(kind):
    """The second epoch's scores are others: once, the first epoch's value was given again."""
    epochs = [{str(i): (scale * frame(i)[0], frame(i)[1]) for i in range(3)} for scale in (1, 1.5)]
    metrics = filled(kind, **epochs[0])
    with pytest.raises(InputError, match="frame '0' was seen before with other scores"):
        kind.update(metrics, "0", *epochs[1]["0"])
    metrics.reset()
    for name, (score, label) in epochs[1].items():
        kind.update(metrics, name, score, label)
    assert metrics.compute().values == filled(kind, **epochs[1]).compute().values


def test_what_is_wrong_with_a_repeated_frame_is_told_too(kind):
    """Once a repeated frame was not looked at."""
    score, label = frame(0)
    metrics = filled(kind, a=(score, label))
    for bad in ((np.where(score > 2, np.nan, score), label), (score[1:], label), (score, label + 1)):
        with pytest.raises(InputError, match="frame 'a'"):
            kind.update(metrics, "a", *bad)


@pytest.mark.parametrize(
    "score",
    [
        *(np.zeros(SIZE, np.float32), np.full(SIZE, -3.25), np.zeros(SIZE, bool), np.full(SIZE, 1.7e308)),
        *(1.7e308 * np.linspace(-1, 1, 5400).reshape(SIZE), np.full(SIZE, 5e-324), np.arange(5400).reshape(SIZE)),
    ],
    ids=lambda score: f"{score.dtype} {score.flat[0]}",
)
def test_odd_scores_repeat_as_themselves(kind, score):
    label = frame(0)[1]
    metrics = filled(kind, a=(score, label))
    kind.update(metrics, "a", score, label)
    metrics.merge(filled(kind, a=(score, label)))
    assert metrics.compute().frames == 1


def test_all_ignored_and_very_small_frames_repeat(kind):
    for label in (np.full((3, 4), 255, np.uint8), np.zeros((1, 1), np.uint8)):
        score = np.ones(label.shape, np.float32)
        metrics = filled(kind, a=(score, label))
        kind.update(metrics, "a", score, label)
        with pytest.warns(UserWarning, match="NaN"):
            assert metrics.compute().frames == 1


def test_pixels_that_do_not_count_have_no_say(kind):
    score, label = frame(0)
    metrics = filled(kind, a=(score, label))
    kind.update(metrics, "a", np.where(label == 255, 1e6, score).astype(np.float32), label)
    assert metrics.compute().frames == 1


@pytest.mark.parametrize("size", [(1024, 2048), (720, 1280), (512, 512), (61, 67), (1, 5000), (5000, 1)])
def test_the_sample_is_small_and_sees_every_part(size):
    """It goes through rows and columns alike, and no change of an eighth of the frame escapes it."""
    label = np.zeros(size, np.uint8)
    base = FrameKey.of(FrameCounts(label.size, 0, 0), label.astype(np.float32), label)
    for axis in (0, 1):
        for part in range(8):
            ends = [size[axis] * each // 8 for each in (part, part + 1)]
            if ends[0] < ends[1]:
                changed = label.copy()
                changed[tuple(slice(*ends) if axis == i else slice(None) for i in (0, 1))] = 1
                assert FrameKey.of(base.counts, label, changed).sample.label != base.sample.label
    places = sample_places(size)
    assert places.size <= SAMPLE
    assert 0 <= places.min() <= places.max() < label.size
    assert np.unique(places).size > 0.95 * min(label.size, SAMPLE if size[1] > 1 else 0)
    for axis, taken in enumerate(np.unravel_index(places, size)):
        gaps = np.diff(np.unique(taken), prepend=-1, append=size[axis])
        assert gaps.max() <= max(1, size[axis] / 40 + 1), axis


def test_merging_stays_associative_and_commutative(kind):
    parts = [{"a": frame(0), "b": frame(1)}, {"b": frame(1), "c": frame(2)}, {"c": frame(2), "a": frame(0)}]
    expected = filled(kind, a=frame(0), b=frame(1), c=frame(2)).compute().values
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        for left in (True, False):
            first, second, third = (filled(kind, **parts[i]) for i in order)
            if left:
                first.merge(second)
                first.merge(third)
            else:
                second.merge(third)
                first.merge(second)
            assert first.compute().values == pytest.approx(expected, abs=1e-12)


class TestStates:
    @pytest.fixture(params=[{"mode": "exact"}, {"mode": "exact", "memory_budget": 1}, {"mode": "binned"}], ids=str)
    def settings(self, request):
        return request.param

    def saved(self, path, settings):
        metrics = PixelMetrics("msp", **settings)
        for i in range(3):
            metrics.update(f"f{i}", *frame(i))
        metrics.save(path)
        return metrics

    @pytest.mark.parametrize("window", [1, 10**9])
    def test_keys_are_kept(self, tmp_path, settings, window, monkeypatch):
        monkeypatch.setattr(binned, "OPEN", window)
        expected = self.saved(tmp_path / "state.npz", settings).compute()
        found = PixelMetrics.load(tmp_path / "state.npz")
        found.update("f1", *frame(1))
        assert found.compute() == expected
        with pytest.raises(InputError, match="frame 'f1' was seen before with other scores"):
            found.update("f1", frame(1)[0] + 1, frame(1)[1])
        other = PixelMetrics("msp", mode=found.mode)
        other.update("f2", *frame(7))
        with pytest.raises(InputError, match="cannot merge: frame 'f2' is in both parts, with another label"):
            found.merge(other)

    def test_states_of_earlier_versions_are_read_and_compare_counts(self, tmp_path, settings, monkeypatch):
        """They have no keys; what was known of them, numbers of pixels, is still compared."""
        path = tmp_path / "state.npz"
        write = state_file.json.dumps
        monkeypatch.setattr(
            state_file.json, "dumps", lambda header: write({k: v for k, v in header.items() if k != "keys"})
        )
        expected = self.saved(path, settings).compute()
        monkeypatch.undo()
        with np.load(path) as file:
            assert "keys" not in json.loads(bytes(file["header"]))
        found = PixelMetrics.load(path)
        assert found.compute() == expected
        found.update("f1", frame(1)[0] + 1, frame(1)[1])  # cannot be told
        assert found.compute() == expected
        with pytest.raises(InputError, match="frame 'f1' was seen before with another label"):
            found.update("f1", *frame(7))
        fresh = PixelMetrics("msp", mode=found.mode)
        fresh.update("f1", *frame(1))
        found.merge(fresh)
        with pytest.raises(InputError, match="frame 'f1' was seen before with other scores"):
            found.update("f1", frame(1)[0] + 1, frame(1)[1])  # now it can

    @pytest.mark.parametrize(
        "keys", [{"f1": [1, 2]}, {"f1": "abc"}, [1], {"f1": [0, float("nan"), 1]}, {"f1": [0, 1, -1]}, {"f1": None}]
    )
    def test_damaged_keys_are_refused(self, tmp_path, settings, keys, monkeypatch):
        write = state_file.json.dumps
        monkeypatch.setattr(state_file.json, "dumps", lambda header: write({**header, "keys": keys}))
        self.saved(tmp_path / "state.npz", settings)
        with pytest.raises(InputError, match=r"state\.npz: expected the state of pixel metrics"):
            PixelMetrics.load(tmp_path / "state.npz")


def test_a_failed_update_leaves_no_name_behind(kind, monkeypatch):
    """A frame that could not be kept may be given again, and is not taken for one that was seen."""
    metrics = kind.make()
    target = {
        Pixels: "exact.ExactScores.add",
        Binned: "binned.BinnedScores.add",
        Components: "component.frame_components",
        Best: "spill.SpillFile.write",
        Open: "open_iou.count_decisions",
    }[kind]

    def fail(*args, **kwargs):
        raise InputError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(f"anomaly.metrics.{target}", fail)
        with pytest.raises(InputError, match="no room"):
            kind.update(metrics, "a", *frame(0))
    kind.update(metrics, "a", *frame(1))
    assert metrics.compute().values == filled(kind, a=frame(1)).compute().values


def test_fingerprints_refuse_another_label_of_a_name():
    """Once the second was dropped, and two sets had one fingerprint."""
    fingerprint = Fingerprint()
    fingerprint.add("a", frame(0)[1])
    fingerprint.add("a", frame(0)[1])
    before = fingerprint.hexdigest()
    with pytest.raises(InputError, match="frame 'a' was seen before with another label; give every frame its own name"):
        fingerprint.add("a", frame(1)[1])
    assert fingerprint.hexdigest() == before


@pytest.mark.slow
def test_the_comparison_costs_little():
    """Below 2 % of an update of two megapixels, by the fastest of many; 4 % here, where others may be at work."""
    score, label = frame(0, (1024, 2048))
    update, key = [], []
    for _ in range(15):
        metrics = PixelMetrics()
        start = time.perf_counter()
        metrics.update("a", score, label)
        update.append(time.perf_counter() - start)
        start = time.perf_counter()
        FrameKey.of(FrameCounts(1, 1, 1), score, label)
        key.append(time.perf_counter() - start)
    assert min(key) < 0.04 * min(update)
