"""Conventions against scikit-learn, and against plain code that follows the projects' own on concatenated pixels."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from anomaly.errors import InputError
from anomaly.metrics import UndefinedMetricWarning
from anomaly.metrics.convention_rules import DatasetScores
from anomaly.metrics.conventions import CONVENTIONS, convention_table
from anomaly.metrics.functional.other_rules import fpr_above_tpr, smiyc_curve
from anomaly.metrics.runs import FrameScores

close = partial(pytest.approx, abs=1e-9)


def frame(score, label):
    score, label = np.asarray(score), np.asarray(label)
    return FrameScores(np.sort(score[label == 0]), np.sort(score[label == 1]), int((label == 255).sum()))


def street(seed=0, count=5, size=4000, scale=1.0, step=0.0, dtype=np.float32):
    """Frames of very different shares and difficulty, the last one without anomaly: (score, label) each, flat."""
    random = np.random.default_rng(seed)
    maps = []
    for index in range(count):
        label = (random.random(size) < (0.0 if index == count - 1 else 0.02 + 0.1 * index)).astype(np.uint8)
        score = scale * (random.standard_t(4, size) + label * random.uniform(0.5, 2.5) + random.normal())
        maps.append(((np.round(score / step) * step if step else score).astype(dtype), label))
    return maps


def frames_of(maps):
    return {f"frame{index}": frame(*one) for index, one in enumerate(maps)}


def flat(maps):
    """All scores and labels."""
    return np.concatenate([score for score, _ in maps]), np.concatenate([label for _, label in maps])


def figures(name, maps):
    found = CONVENTIONS[name](frames_of(maps))
    return found.auroc, found.ap, found.fpr95


# What the projects do, from scores and labels in the order of the pixels.


def first_reaching(score, label):
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    return fpr[np.argmax(tpr >= 0.95)]


def first_above(score, label):
    fpr, tpr, _ = roc_curve(label, score)
    return next(f for f, t in zip(fpr, tpr, strict=True) if t > 0.95)


def hendrycks_nearest(score, label):
    thresholds = sorted(set(score.tolist()), reverse=True)
    tps = np.array([((score >= t) & (label == 1)).sum() for t in thresholds])
    fps = np.array([((score >= t) & (label == 0)).sum() for t in thresholds])
    last = next(i for i, tp in enumerate(tps) if tp == tps[-1])
    recall, fps = [*(tps[last::-1] / tps[-1]), 1], [*fps[last::-1], 0]
    return fps[min(range(len(recall)), key=lambda i: abs(recall[i] - 0.95))] / (label == 0).sum()


def interpolated(score, label):
    fpr, tpr, _ = roc_curve(label, score)
    return np.interp(0.95, tpr, fpr)


def trapezoid(score, label):
    precision, recall, _ = precision_recall_curve(label, score)
    return auc(recall, precision)


def after_sigmoid(score):
    outside = ((score < 0) | (score > 1)).any()
    return torch.sigmoid(torch.from_numpy(score.astype(np.float32))).numpy() if outside else score


def exact(score, label, ap=average_precision_score, fpr95=first_reaching):
    return (
        roc_auc_score(label, score),
        ap(label, score) if ap is average_precision_score else ap(score, label),
        fpr95(score, label),
    )


def mean_of(maps, prepare=lambda score: score, **rules):
    return np.mean([exact(prepare(score), label, **rules) for score, label in maps if 0 < label.mean() < 1], axis=0)


POOLED = {
    "ours": exact,
    "strict": partial(exact, fpr95=first_above),
    "nearest": partial(exact, fpr95=hendrycks_nearest),
    "trapezoid": partial(exact, ap=trapezoid),
    "ood_metrics": partial(exact, ap=trapezoid, fpr95=interpolated),
    "torchmetrics": lambda score, label: exact(after_sigmoid(score), label),
    "float16": lambda score, label: exact(score.astype(np.float16).astype(np.float64), label),
}
PER_IMAGE = {
    "per_image": mean_of,
    "hendrycks": partial(mean_of, fpr95=hendrycks_nearest),
    "pytorch_ood": partial(mean_of, prepare=after_sigmoid, ap=trapezoid),
}
MAPS = {
    "distinct": street(),
    "ties": street(1, step=0.25),
    "few values": street(2, step=2.0),
    "likelihoods": street(3, scale=300.0, step=0.5),
    "double": street(4, dtype=np.float64),
    "fractions": [(1 / (1 + np.exp(-score)), label) for score, label in street(5)],
}
on_maps = pytest.mark.parametrize("maps", MAPS.values(), ids=MAPS)


@on_maps
@pytest.mark.parametrize("name", POOLED)
def test_pooled(name, maps):
    small = [(score[:700], label[:700]) for score, label in maps] if name == "nearest" else maps
    assert figures(name, small) == close(POOLED[name](*flat(small)))


@on_maps
@pytest.mark.parametrize("name", PER_IMAGE)
def test_per_image(name, maps):
    small = [(score[:700], label[:700]) for score, label in maps]
    assert figures(name, small) == close(PER_IMAGE[name](small))
    assert CONVENTIONS[name](frames_of(maps)).frames == len(maps) - 1


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", POOLED)
def test_pooled_on_tiny_sets(name, data):
    """Few pixels and few values, so that levels are met exactly and straight lines are common."""
    pairs = st.tuples(st.integers(-2, 6), st.integers(0, 1))
    drawn = data.draw(st.lists(pairs, min_size=2, max_size=45).filter(lambda p: {y for _, y in p} == {0, 1}))
    score, label = np.array(drawn, np.float32).T
    assert figures(name, [(score, label)]) == close(POOLED[name](score, label))


@settings(max_examples=80, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=2, max_size=20))
def test_first_above_a_low_level(pairs):
    score, label = np.array([*pairs, (3, 0), (3, 1)], np.float32).T
    fpr, tpr, _ = roc_curve(label, score)
    points = DatasetScores({"a": frame(score, label)}).points
    assert fpr_above_tpr(points, 0.2) == close(next(f for f, t in zip(fpr, tpr, strict=True) if t > 0.2))


@pytest.mark.parametrize("anomalies", [20, 40])
def test_levels_met_exactly(anomalies):
    """19 of 20: >= takes that threshold, > the next, and interpolation the last known pixel before the next."""
    score = np.arange(2.0 * anomalies, 0, -1, dtype=np.float32)
    label = np.tile([1, 0], anomalies).astype(np.uint8)
    at = round(0.95 * anomalies)
    found = {name: figures(name, [(score, label)])[2] for name in ("ours", "strict", "nearest", "ood_metrics")}
    assert found == {
        "ours": (at - 1) / anomalies,
        "strict": at / anomalies,
        "nearest": at / anomalies,
        "ood_metrics": at / anomalies,
    }


def test_nearest_may_lie_below():
    score, label = np.float32([5, 4, 3, 2, 1]), np.uint8([1, 0, 0, 1, 0])
    score, label = np.repeat(score, [9, 5, 5, 1, 10]), np.repeat(label, [9, 5, 5, 1, 10])  # recall 0.9, then 1
    assert figures("nearest", [(score, label)])[2] == hendrycks_nearest(score, label)
    assert figures("ours", [(score, label)])[2] == 0.5


@on_maps
def test_anomalous_frames(maps):
    assert figures("anomalous_frames", maps) == close(exact(*flat([one for one in maps if one[1].any()])))
    assert CONVENTIONS["anomalous_frames"](frames_of(maps)).frames == len(maps) - 1


def smiyc_plainly(maps):
    """PixBinaryClass on frames of float16 scores: thresholds, true and false positives."""
    every = []
    for score, label in maps:
        score = score.astype(np.float16).astype(np.float64)
        low, high = score.min(), score.max()
        edges = {low - max((high - low) * 0.01, 0.01), high + max((high - low) * 0.01, 0.01)}
        for value in (0, 1):
            if size := (label == value).sum():
                edges |= set(np.quantile(score[label == value], np.linspace(0, 1, min(384, size))).tolist())
        edges = sorted(edges)
        for lower, upper in zip(edges[-2::-1], edges[:0:-1], strict=True):
            inside = (score >= lower) & (score < upper)
            every.append((lower, (inside & (label == 1)).sum(), (inside & (label == 0)).sum()))
    every.sort(key=lambda line: -line[0])
    thresholds, hits, ties = np.array(every).T
    keep = [i for i in range(len(every)) if i in (0, len(every) - 1) or thresholds[i] != thresholds[i + 1]]
    return thresholds[keep], np.cumsum(hits)[keep], np.cumsum(ties)[keep]


@pytest.mark.parametrize("name", ["distinct", "ties", "likelihoods", "double"])
def test_smiyc(name):
    maps = [(score[:1500], label[:1500]) for score, label in MAPS[name]]
    maps.append(max(maps, key=lambda one: one[0].max()))  # twice the same highest threshold
    thresholds, tp, fp = smiyc_plainly(maps)
    curve = smiyc_curve(frames_of(maps).values())
    np.testing.assert_allclose(curve.thresholds, thresholds, rtol=0, atol=1e-9)
    np.testing.assert_array_equal([curve.tp, curve.fp], [tp, fp])
    tpr, fpr = np.append(0, tp / tp[-1]), np.append(0, fp / fp[-1])
    precision = tp / np.maximum(tp + fp, 1)
    ap = sum(step * value for step, value in zip(np.diff(tpr), precision, strict=True))
    assert figures("smiyc", maps) == close((auc(fpr, tpr), ap, fpr[np.argmax(tpr >= 0.95)]))


def test_smiyc_golden(golden):
    """Figures that the published code gave."""
    record = np.load(golden("components.npz"))
    maps = list(zip(record["scores"], record["labels"], strict=True))
    ap, fpr95, best_f1, threshold = record["smiyc_pixel"]
    found = CONVENTIONS["smiyc"](frames_of(maps))
    assert (found.ap, found.fpr95) == pytest.approx((ap, fpr95), abs=1e-9)
    assert smiyc_curve(frames_of(maps).values()).best_f1() == pytest.approx((best_f1, threshold), abs=1e-9)
    ours = CONVENTIONS["ours"](frames_of(maps))
    expected = record["exact_pixel_auroc_ap_fpr95_thr"][:3]
    assert (ours.auroc, ours.ap, ours.fpr95) == pytest.approx(tuple(expected), abs=1e-9)


def in_unit(score):
    return (score - score.min()) / (score.max() - score.min()) if score.min() < 0 or score.max() > 1 else score


@pytest.mark.parametrize("name", ["distinct", "fractions", "likelihoods"])
def test_uniform_bins(name):
    score, label = flat(MAPS[name])
    bins = np.digitize(in_unit(score.astype(np.float16).astype(np.float64)), np.linspace(-0.01, 1.01, 4097))
    assert figures("smiyc_uniform", MAPS[name]) == close(exact(bins, label))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fractions", "likelihoods"])
def test_meta_ood(name):
    score, label = flat(MAPS[name])
    bins = np.linspace(0, 1, 101)
    counts = [np.histogram(in_unit(score.astype(np.float64))[label == value], bins=bins)[0] for value in (0, 1)]

    def pixels(sizes):
        lists = [
            np.repeat(np.arange(100), (c / c.sum() * size).astype("uint32"))
            for c, size in zip(counts, sizes, strict=True)
        ]
        return np.concatenate(lists), np.repeat([0, 1], [len(one) for one in lists])

    values, classes = pixels([1e5, 1e5])
    fpr, tpr, _ = roc_curve(classes, values)
    known = counts[0].sum() / (counts[0].sum() + counts[1].sum())
    values, classes = pixels([1e7 * known, 1e7 * (1 - known)])
    expected = auc(fpr, tpr), average_precision_score(classes, values), fpr[np.abs(tpr - 0.95).argmin()]
    assert figures("meta_ood", MAPS[name]) == close(expected)


def test_balanced_has_equal_classes():
    maps = street(size=20_000)
    score, label = flat(maps)
    weight = np.where(label == 1, 1 / label.mean(), 1 / (1 - label.mean()))
    found = figures("balanced", maps)
    assert found[0] == pytest.approx(roc_auc_score(label, score), abs=0.01)
    assert found[1] == pytest.approx(average_precision_score(label, score, sample_weight=weight), abs=0.02)
    assert found == figures("balanced", maps)


@pytest.mark.parametrize("size", [4000, 1000])
def test_obsnet(size):
    """ObsNet's loop over cut points; known is what it calls success."""
    maps = street(6, size=size)
    score, label = flat(maps)
    known = label[np.argsort(score, kind="stable")] == 0
    tpr, fpr, precision = [], [], []
    for cut in np.linspace(0, len(score), 10_000).astype(int)[1:]:
        tp, fp = known[:cut].sum(), (~known[:cut]).sum()
        tpr.append(tp / known.sum())
        fpr.append(fp / (~known).sum())
        precision.append(tp / (tp + fp + 1e-11))
    at = next((f for t, f in zip(tpr, fpr, strict=True) if 0.9495 <= t <= 0.9505), 0)
    assert figures("obsnet", maps) == close((np.trapezoid(tpr, fpr), np.trapezoid(precision, tpr), at))


def test_obsnet_finds_no_cut():
    score, label = np.float32([3, 2, 1, 0]), np.uint8([1, 0, 0, 0])
    assert figures("obsnet", [(score, label)])[2] == 0.0


def test_sigmoid_saturates():
    maps = [(np.abs(score) + 20, label) for score, label in street()]
    assert figures("torchmetrics", maps)[0] == 0.5
    assert figures("ours", maps)[0] > 0.5


def test_float16_overflow():
    maps = street(scale=1e6)
    with np.errstate(over="ignore"):
        halved = flat(maps)[0].astype(np.float16)
    halved = np.nan_to_num(halved.astype(np.float64), posinf=1e9, neginf=-1e9)
    assert figures("float16", maps) == close(exact(halved, flat(maps)[1]))
    for name in ("smiyc", "smiyc_uniform"):
        with pytest.warns(UndefinedMetricWarning, match=name):
            assert np.isnan(figures(name, maps)).all()


@pytest.mark.parametrize("missing", [0, 1])
def test_undefined_without_a_class(missing):
    maps = [(score, np.full_like(label, 1 - missing)) for score, label in street()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = convention_table(frames_of(maps))
    assert all(np.isnan([found.auroc, found.ap, found.fpr95]).all() for _, found in rows)
    assert len(caught) == len(CONVENTIONS)
    assert {one.category for one in caught} == {UndefinedMetricWarning}


def test_classes_in_different_frames():
    maps = [(np.float32([1, 2]), np.uint8([0, 0])), (np.float32([3]), np.uint8([1]))]
    assert figures("ours", maps) == (1.0, 1.0, 0.0)
    for name in ("per_image", "anomalous_frames"):
        with pytest.warns(UndefinedMetricWarning, match=name):
            assert math.isnan(figures(name, maps)[0])


def test_constant_scores_and_no_frames():
    label = np.uint8([0, 1] * 30)
    for convention, found in convention_table(frames_of([(np.full(60, 7, np.float32), label)])):
        assert found.auroc == pytest.approx(0.5, abs=1e-3), convention.name
    with pytest.warns(UndefinedMetricWarning):
        assert math.isnan(CONVENTIONS["smiyc"]({}).ap)


def test_bad_frames():
    good, bad = np.float32([1, 2]), np.float32([2, 1])
    with pytest.raises(InputError, match="'second', anomaly"):
        DatasetScores([("first", FrameScores(good, good, 0)), ("second", FrameScores(good, bad, 0))])
    with pytest.raises(InputError, match=r"'first'.*finite known"):
        DatasetScores({"first": FrameScores(np.float32([1, np.inf]), good, 0)})


def test_table_names_every_convention():
    rows = convention_table(frames_of(street(size=200)))
    assert [convention.name for convention, _ in rows] == list(CONVENTIONS)
    assert next(iter(CONVENTIONS)) == "ours"
    assert all(one.title and one.used_by and one.differs for one in CONVENTIONS.values())
