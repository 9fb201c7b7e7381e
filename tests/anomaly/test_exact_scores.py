"""Exact figures of many pixels: against scikit-learn, from memory and from disk, in one block and in many."""

import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics, exact, spill
from anomaly.metrics.functional.curve import _count, _search, from_ordered_keys, ordered_keys

ROOT = Path(__file__).resolve().parents[2]


def labels(random, size=(60, 90)):
    return random.choice([0, 0, 0, 0, 0, 1, 255], size).astype(np.uint8)


def frames_of(kind, count=4):
    """Scores of a kind on random labels, more anomalous where the label is, but not always."""
    random = np.random.default_rng(0)
    for index in range(count):
        label = labels(random)
        score = random.normal(label == 1, 1.5)
        if kind == "one positive pixel":
            label[label == 1] = 0
            label[3, 4] = index == 2
        yield str(index), KINDS[kind](score), label


KINDS = {
    "random": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "heavy ties": lambda x: x.round().astype(np.float32),
    "constant": lambda x: np.full_like(x, -3.25),
    "log-likelihoods of 1e2": lambda x: (-300 + 20 * x).astype(np.float32),
    "log-likelihoods of 1e6": lambda x: (-1e6 + 30 * x).astype(np.float32),
    "denormals": lambda x: (x * 5e-324 * 100).astype(np.float64),
    "float32 denormals": lambda x: (x * np.float32(1e-45) * 50).astype(np.float32),
    "one positive pixel": lambda x: x.astype(np.float32),
    "int64": lambda x: (x * 1e6).astype(np.int64),
    "uint8": lambda x: (20 * x + 100).clip(0, 255).astype(np.uint8),
    "bool": lambda x: x > 0.5,
    "zeros of both signs": lambda x: np.where(x > 0.5, 0.0, -0.0) * (np.abs(x) < 2) + np.sign(x) * (np.abs(x) >= 2),
}


def filled(frames, **settings):
    metrics = PixelMetrics(**settings)
    for frame in frames:
        metrics.update(*frame)
    return metrics


def pixels_of(frames):
    frames = list(frames)
    label = np.concatenate([label[label != 255] for _, _, label in frames])
    return label, np.concatenate([np.float64(score)[label != 255] for _, score, label in frames])


def scikit_learn(label, score, threshold):
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(label, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return {
        "auroc": roc_auc_score(label, score),
        "ap": average_precision_score(label, score),
        "fpr95": fpr[np.argmax(tpr >= 0.95)],
        "best_f1": f1.max(),
        "recall_at_fpr05": tpr[fpr <= 0.05].max(),
        "f1": f1_score(label, score >= threshold),
        "iou": jaccard_score(label, score >= threshold),
    }


@pytest.fixture(params=["one block", "many blocks", "disk"])
def budget(request, monkeypatch):
    """A memory budget, with blocks small enough to matter."""
    if request.param != "one block":
        monkeypatch.setattr(exact, "STRIDE", 8)
        monkeypatch.setattr(exact, "BLOCK", 200)
        monkeypatch.setattr(exact, "BLOCKS", 10**6)
    return 30_000 if request.param == "disk" else 2**30


@pytest.mark.parametrize("kind", KINDS)
def test_equals_scikit_learn(kind, budget):
    frames = list(frames_of(kind))
    label, score = pixels_of(frames)
    threshold = float(np.quantile(score, 0.8))
    result = filled(frames, threshold=threshold, memory_budget=budget).compute()
    expected = scikit_learn(label, score, threshold)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-9, rel=0), name
    at_best = score >= result["best_f1_threshold"]
    assert f1_score(label, at_best) == pytest.approx(result["best_f1"], abs=1e-9)
    if kind != "one positive pixel":
        means = [scikit_learn(*pixels_of([frame]), threshold) for frame in frames]
        for name in expected:
            mean = np.mean([each[name] for each in means])
            assert result[f"{name}_per_image"] == pytest.approx(mean, abs=1e-9, rel=0), name
        assert [result.per_frame[str(i)]["ap"] for i in range(4)] == pytest.approx([each["ap"] for each in means])
    else:
        assert result.undefined_frames == ("0", "1", "3")
        assert result["ap_per_image"] == result.per_frame["2"]["ap"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "heavy ties", "constant", "denormals"])
def test_disk_and_blocks_change_nothing(kind, monkeypatch):
    expected = filled(frames_of(kind)).compute()
    monkeypatch.setattr(exact, "STRIDE", 4)
    monkeypatch.setattr(exact, "BLOCK", 50)
    monkeypatch.setattr(exact, "BLOCKS", 10**6)
    for budget in (1, 60_000, 2**30):
        metrics = filled(frames_of(kind), memory_budget=budget)
        found = metrics.compute()
        assert found.values == pytest.approx(expected.values, abs=1e-14, rel=0)
        assert found.per_frame == expected.per_frame
        assert metrics.compute() == found
        if kind != "constant":
            assert sum(1 for _ in metrics.curve()) > 8


def test_types_may_be_mixed(monkeypatch):
    monkeypatch.setattr(exact, "STRIDE", 4)
    monkeypatch.setattr(exact, "BLOCK", 50)
    monkeypatch.setattr(exact, "BLOCKS", 10**6)
    frames = [*frames_of("float32"), *((f"{name}b", score, label) for name, score, label in frames_of("random"))]
    for budget in (1, 2**30):
        result = filled(frames, memory_budget=budget).compute()
        assert result["auroc"] == pytest.approx(roc_auc_score(*pixels_of(frames)), abs=1e-9)
        assert result["ap"] == pytest.approx(average_precision_score(*pixels_of(frames)), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
def test_strictly_monotone_maps_change_no_rank_figure(seed, dtype):
    """Powers of two and ranks keep every order and every tie, so AUROC and AP are the same to the last bit."""
    random = np.random.default_rng(seed)
    label = labels(random, (20, 30))
    score = random.normal(label == 1, 1).round(random.integers(0, 6)).astype(dtype)
    ranks = np.unique(score, return_inverse=True)[1].reshape(score.shape).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, *after = (filled([("a", each, label)]).compute() for each in (score, score * 2**-40, ranks))
    for result in after:
        for name in ("auroc", "ap", "fpr95", "best_f1"):
            np.testing.assert_equal(result[name], before[name])


def test_counts_at_thresholds(budget):
    frames = list(frames_of("heavy ties"))
    label, score = pixels_of(frames)
    thresholds = np.array([-2.0, 0.0, 0.5, 1.0, 99.0])
    tp, fp = filled(frames, memory_budget=budget).counts_at(thresholds)
    assert tp.tolist() == [int((score[label == 1] >= t).sum()) for t in thresholds]
    assert fp.tolist() == [int((score[label == 0] >= t).sum()) for t in thresholds]


def test_frames_come_sorted_and_in_order(budget):
    frames = list(frames_of("float32"))
    found = list(filled(reversed(frames), memory_budget=budget).frames())
    assert [name for name, _ in found] == ["0", "1", "2", "3"]
    for (_, scores), (_, score, label) in zip(found, frames, strict=True):
        np.testing.assert_array_equal(scores.known, np.sort(score[label == 0]))
        np.testing.assert_array_equal(scores.anomaly, np.sort(score[label == 1]))
        assert scores.ignored == (label == 255).sum()


def test_nothing_is_left_in_the_spill_folder(tmp_path):
    metrics = filled(frames_of("float32"), memory_budget=1, spill_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    metrics.compute()
    with pytest.raises(InputError, match="NaN"):
        metrics.update("bad", np.full((2, 2), np.nan), np.zeros((2, 2), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_loses_nothing(tmp_path, monkeypatch):
    frames = list(frames_of("float32"))
    metrics = filled(frames[:2], memory_budget=1, spill_dir=tmp_path)
    expected = metrics.compute()

    def fail(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spill.SpillFile, "_write", fail)
        with pytest.raises(InputError, match=rf"{tmp_path}: expected room for .*No space left.*larger disk"):
            metrics.update(*frames[2])
    assert metrics.compute() == expected
    metrics.update(*frames[2])
    assert metrics.compute().values == filled(frames[:3]).compute().values


def test_a_limit_on_file_sizes_ends_with_a_sentence(tmp_path):
    code = f"""
import numpy as np, resource
from pathlib import Path
from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
metrics = PixelMetrics(memory_budget=1, spill_dir=Path({str(tmp_path)!r}))
try:
    metrics.update("a", np.zeros((90, 90), np.float32), np.zeros((90, 90), np.uint8))
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "expected room for" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10_000


def test_a_spill_folder_that_is_not_there_is_named(tmp_path):
    metrics = PixelMetrics(memory_budget=1, spill_dir=tmp_path / "gone")
    with pytest.raises(InputError, match=r"gone: expected a folder for temporary files"):
        metrics.update(*next(frames_of("float32")))
    assert metrics.num_known == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=30))
def test_keys_keep_the_order(values):
    for dtype in (np.float32, np.float64):
        scores = np.array(values, dtype) + dtype(0)
        keys = ordered_keys(scores)
        assert ((keys[:, None] < keys) == (scores[:, None] < scores)).all()
        np.testing.assert_array_equal(from_ordered_keys(keys), scores)
        assert ordered_keys(np.nextafter(scores, dtype(np.inf)) + dtype(0)).tolist() == [
            key + (2 if score == -np.nextafter(dtype(0), dtype(1)) else 1)
            for key, score in zip(keys.tolist(), scores, strict=True)
        ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-30, 1e-3, 1.0]))
def test_counting_agrees_with_searching(seed, spread):
    random = np.random.default_rng(seed)
    known = (100 + spread * random.integers(-50, 50, 400)).astype(np.float32)
    thresholds = np.unique((100 + spread * random.integers(-60, 60, 20)).astype(np.float32))
    found, expected = _count(known, thresholds), _search(np.sort(known), thresholds)
    assert (found is None) == (np.ptp(known.astype(np.float64)) > 0.02)
    for each, other in zip(found or expected, expected, strict=True):
        np.testing.assert_array_equal(each, other)
