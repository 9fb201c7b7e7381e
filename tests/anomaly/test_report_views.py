"""What a run keeps for a report: reduced frames, codes and their levels, packed arrays, bands around curves."""

import base64
import json
import zlib

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_curve

from anomaly.errors import InputError
from anomaly.evaluation.score_maps import TopClasses
from anomaly.frames import Frame
from anomaly.metrics.bands import RATES, RECALLS, curve_bands
from anomaly.metrics.bootstrap import FrameTable
from anomaly.metrics.pixel import PixelMetrics
from anomaly.metrics.score_curves import ScoreCurves, choose_levels
from anomaly.report.html import safe_json
from anomaly.report.pack import pack_numbers, pack_picture
from anomaly.report.views import DatasetViews, View, sample, view_size


def frame_of(height, width, seed=0):
    random = np.random.default_rng(seed)
    label = random.choice(np.uint8([0, 0, 1, 255]), (height, width))
    return Frame("f", random.integers(0, 256, (height, width, 3), dtype=np.uint8), label)


def measured(frames=5, pixels=300, seed=0, decimals=2):
    """Metrics with ties, and their scores and labels by frame."""
    random, metrics, kept = np.random.default_rng(seed), PixelMetrics("s", dataset="x"), []
    for i in range(frames):
        label = (random.random((1, pixels)) < 0.2).astype(np.uint8)
        score = np.round(random.normal(label * 1.2 + i / 5, 1), decimals).astype(np.float32)
        metrics.update(f"{i}", score, label)
        kept.append((score.ravel(), label.ravel()))
    return metrics, kept


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 1280), (360, 640)), ((360, 480), (360, 480)), ((50, 2000), (16, 640)), ((1, 1), (1, 1))],
)
def test_views_are_never_enlarged_nor_larger_than_they_may_be(size, expected):
    assert view_size(*size) == expected


def test_every_pixel_of_a_view_is_the_one_in_the_middle_of_its_cell():
    frame = frame_of(500, 900)
    scores = [np.random.default_rng(i).normal(size=(500, 900)).astype(np.float32) for i in range(2)]
    predicted = np.random.default_rng(3).integers(0, 300, (500, 900))
    asked = {}

    def top_classes(rows, columns):
        asked["at"] = rows, columns
        shape = (5, len(rows), len(columns))
        return TopClasses("log_softmax", np.zeros(shape, np.int64), np.zeros(shape, np.float32))

    view = View.of(frame, scores, predicted, top_classes)
    height, width = 356, 640
    assert view.label.shape == (height, width)
    for y, x in [(0, 0), (355, 639), (100, 17), (201, 333)]:
        row, column = int((y + 0.5) * 500 / height), int((x + 0.5) * 900 / width)
        assert view.label[y, x] == frame.label[row, column]
        assert view.predicted[y, x] == predicted[row, column]
        assert [one[y, x] for one in view.maps] == [one[row, column] for one in scores]
    rows, columns = asked["at"]
    assert len(columns) == 80
    assert len(rows) == 44
    for i, j in [(0, 0), (43, 79), (20, 31)]:
        assert view.points[1, i, j] == scores[1][rows[i], columns[j]]
    shown = cv2.imdecode(view.image, cv2.IMREAD_COLOR)
    assert shown.shape == (height, width, 3)


def test_a_code_tells_on_which_side_of_every_level_a_score_is():
    metrics, kept = measured()
    levels = choose_levels(FrameTable.of(metrics))
    scores = np.concatenate([score for score, _ in kept])[None]
    frame = Frame("f", np.zeros((*scores.shape, 3), np.uint8), np.zeros(scores.shape, np.uint8))
    view = View.of(frame, [scores], None, None)
    codes = View(**{**vars(view), "maps": scores[None]}).coded([levels]).maps[0]
    assert codes.dtype == np.uint8
    for k, level in enumerate(levels.tolist()):
        assert ((codes > k) == (scores >= level)).all()


def test_levels_resolve_low_rates_and_their_rates_are_exact():
    metrics, kept = measured(frames=8, pixels=20_000, decimals=6)
    curves = ScoreCurves.of(metrics, metrics.compute(), FrameTable.of(metrics), replicates=5)
    scores, labels = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    assert 200 < len(curves.levels) <= 255
    assert sum(rate < 0.01 for rate in curves.level_fpr) > 50
    for at in (0, 57, 120, len(curves.levels) - 1):
        assert curves.level_fpr[at] == (scores[labels == 0] >= curves.levels[at]).mean()
        assert curves.level_tpr[at] == (scores[labels == 1] >= curves.levels[at]).mean()
    counts, _ = np.histogram(np.clip(scores[labels == 0], curves.edges[0], curves.edges[-1]), np.array(curves.edges))
    np.testing.assert_allclose(np.array(curves.known) * (labels == 0).sum(), counts, atol=2)
    assert ScoreCurves.from_record(json.loads(json.dumps(curves.record()))) == curves


def unpacked(text, shape):
    """Undo :func:`pack_picture` by the definition of the predictor, a pixel at a time."""
    left_over = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)
    out = np.zeros((shape[0] + 1, shape[1] + 1), int)
    for y in range(shape[0]):
        for x in range(shape[1]):
            a, b, c = out[y + 1, x], out[y, x + 1], out[y, x]
            guess = min(a, b) if c >= max(a, b) else max(a, b) if c <= min(a, b) else a + b - c
            out[y + 1, x + 1] = (left_over[y, x] + guess) % 256
    return out[1:, 1:]


def test_packed_arrays_come_back():
    for picture in (np.random.default_rng(0).integers(0, 256, (7, 9), np.uint8), np.full((3, 1), 255, np.uint8)):
        assert (unpacked(pack_picture(picture), picture.shape) == picture).all()
    numbers = np.float32([[1.5, -2e30], [0.1, 7]])
    planes = np.frombuffer(zlib.decompress(base64.b64decode(pack_numbers(numbers))), np.uint8).reshape(4, 4)
    assert [planes[:, i].tobytes() for i in range(4)] == [one.tobytes() for one in numbers.ravel()]


def test_bands_equal_those_of_pooled_pixels_of_every_draw():
    metrics, kept = measured(frames=4, pixels=60, decimals=1)
    bands = curve_bands(FrameTable.of(metrics), replicates=30, seed=1)
    draws = np.random.default_rng(1).multinomial(4, np.full(4, 0.25), size=30)
    rates, precisions = [], []
    for draw in draws:
        scores, labels = (
            np.concatenate([p for p, times in zip(parts, draw, strict=True) for _ in range(times)])
            for parts in zip(*kept, strict=True)
        )
        fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
        row = []
        for rate in RATES:
            left, right = np.flatnonzero(fpr <= rate)[-1], np.flatnonzero(fpr > rate)
            step = (
                0 if not right.size else (rate - fpr[left]) / (fpr[right[0]] - fpr[left]) * (tpr[right[0]] - tpr[left])
            )
            row.append(tpr[left] + step)
        rates.append(row)
        first = [np.flatnonzero(tpr >= recall - 1e-12)[0] for recall in RECALLS]
        precisions.append([labels[scores >= thresholds[i]].mean() for i in first])
    np.testing.assert_allclose((bands.tpr_low, bands.tpr_high), np.quantile(rates, [0.025, 0.975], axis=0), atol=1e-12)
    expected = np.quantile(precisions, [0.025, 0.975], axis=0)
    np.testing.assert_allclose((bands.precision_low, bands.precision_high), expected, atol=1e-12)


def test_one_frame_has_no_band():
    metrics, _ = measured(frames=1)
    assert np.isnan(curve_bands(FrameTable.of(metrics), replicates=5).tpr_low).all()


@pytest.mark.parametrize(("frames", "most", "expected"), [(5, 9, [0, 1, 2, 3, 4]), (101, 3, [0, 50, 100]), (7, 1, [3])])
def test_samples_are_even(frames, most, expected):
    assert list(sample(frames, most)) == expected


def test_files_that_are_damaged_are_refused(tmp_path):
    frame = frame_of(40, 60)
    view = View.of(frame, [np.ones((40, 60), np.float32)], None, None)
    view.write(tmp_path / "0000.npz")
    assert View.read(tmp_path / "0000.npz").frame == "f"
    View(**{**vars(view), "label": view.label + np.uint8(3)}).write(tmp_path / "values.npz")
    View(**{**vars(view), "points": view.points[:, :5]}).write(tmp_path / "shape.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "0000.npz").read_bytes()[:500])
    for name in ("values", "shape", "cut", "absent"):
        with pytest.raises(InputError, match="expected the state of a frame for the report"):
            View.read(tmp_path / f"{name}.npz")
    with pytest.raises(InputError, match="a set for the report"):
        DatasetViews.read(tmp_path)


def test_json_in_a_page_cannot_end_a_script():
    value = {"</script><!--": ["\u2028&", float("nan")]}
    text = str(safe_json(value))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script><!--": ["\u2028&", None]}
