"""Frames as users give them: ids, and arrays of other kinds, give the figures of the same numbers or are refused."""

import enum
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from anomaly.datasets.fingerprint import Fingerprint
from anomaly.errors import InputError
from anomaly.frames import Frame
from anomaly.metrics import ComponentMetrics, OpenIoUMetrics, PixelMetrics
from anomaly.metrics.calibration import choose_threshold
from anomaly.metrics.convention_rules import DatasetScores
from anomaly.metrics.conventions import CONVENTIONS
from anomaly.metrics.functional.components import Track
from anomaly.metrics.runs import FrameScores


def made(seed=0, size=(20, 30)):
    """Scores in eighths, which every type of float holds."""
    random = np.random.default_rng(seed)
    label = random.choice([0, 0, 0, 1, 255], size).astype(np.uint8)
    return (random.integers(-40, 40, size) / 8 + (label == 1)).astype(np.float32), label


class Pixels:
    make = staticmethod(lambda: PixelMetrics(threshold=0.5))
    args = staticmethod(lambda score, label, classes, said: (score, label))


class Binned(Pixels):
    make = staticmethod(lambda: PixelMetrics(threshold=0.5, mode="binned"))


class Components(Pixels):
    make = staticmethod(lambda: ComponentMetrics(Track("t", 2, 2), 0.5))


class Best(Pixels):
    make = staticmethod(lambda: ComponentMetrics(Track("t", 2, 2)))


class Open(Pixels):
    make = staticmethod(lambda: OpenIoUMetrics(("a", "b", "c"), 0.5))
    args = staticmethod(lambda score, label, classes, said: (said, score, label, classes))


KINDS = [Pixels, Binned, Components, Best, Open]


def figures(kind, score, label, classes=None, said=None, name="a"):
    plain = np.random.default_rng(5).integers(0, 3, (2, 20, 30)).astype(np.uint8)
    metrics = kind.make()
    metrics.update(
        name, *kind.args(score, label, *(p if g is None else g for p, g in zip(plain, (classes, said), strict=True)))
    )
    return metrics.compute().values


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


SCORES = {
    "list": np.ndarray.tolist,
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x.astype(np.float64),
    "other byte order": lambda x: x.astype(">f4"),
    "other byte order, 8 bytes": lambda x: x.astype(">f8"),
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "tensor": torch.from_numpy,
    "half": lambda x: torch.from_numpy(x).half(),
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "double": lambda x: torch.from_numpy(x).double(),
    "with a gradient": lambda x: torch.from_numpy(x.copy()).requires_grad_() * 1,
    "data frame": pd.DataFrame,
}


@pytest.mark.parametrize("convert", SCORES.values(), ids=SCORES)
def test_scores_of_every_kind_count_as_their_numbers(kind, convert):
    score, label = made()
    assert figures(kind, convert(score), label) == figures(kind, score, label)


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_scores_of_the_other_byte_order_are_measured_and_saved(dtype, tmp_path):
    score, label = made(size=(90, 90))
    metrics = PixelMetrics()
    metrics.update("a", score.astype(dtype), label)
    counts = label != 255
    expected = average_precision_score(label[counts], score[counts])
    assert metrics.compute()["ap"] == pytest.approx(expected, abs=1e-12)
    native = PixelMetrics()
    native.update("a", score.astype(np.dtype(dtype).newbyteorder("=")), label)
    assert choose_threshold(metrics, "fpr") == choose_threshold(native, "fpr")
    metrics.save(tmp_path / "state.npz")
    assert PixelMetrics.load(tmp_path / "state.npz").compute().values == metrics.compute().values


LABELS = {
    "list": np.ndarray.tolist,
    **{str(np.dtype(t)): lambda x, t=t: x.astype(t) for t in ("i2", "u2", ">u2", "i8", "u8", "f2", "f4", "f8")},
    "tensor": torch.from_numpy,
    "int64 tensor": lambda x: torch.from_numpy(x).long(),
    "bfloat16 tensor": lambda x: torch.from_numpy(x).bfloat16(),
    "data frame": pd.DataFrame,
}


@pytest.mark.parametrize("convert", LABELS.values(), ids=LABELS)
def test_labels_of_every_kind_count_as_their_numbers(kind, convert):
    score, label = made()
    assert figures(kind, score, convert(label)) == figures(kind, score, label)


def test_bool_labels_are_known_and_anomaly(kind):
    score, label = made()
    assert figures(kind, score, label == 1) == figures(kind, score, (label == 1).astype(np.uint8))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        *((0.5, float), (1.0000001, float), (np.nan, float), (-255, np.float32), (256, np.uint16), (511, np.uint16)),
        *((256, np.int64), (257, np.int64), (2**40, np.int64), (-1, np.int64), (-1, np.int8)),
    ],
)
def test_label_values_do_not_wrap_or_round(kind, value, dtype):
    """256 is no 0, -1 no 255 and 0.5 neither of its neighbours."""
    score, label = made()
    label = np.where(label == 255, 0, label).astype(dtype)
    label[3, 4] = value
    for given in (label, torch.from_numpy(label)) if dtype != np.uint16 else (label,):
        with pytest.raises(InputError, match=r"frame 'a': label values must be .* found \["):
            figures(kind, score, given)


BAD = {
    "masked": lambda x: np.ma.array(x, mask=x > 0),
    "masked, without a mask": np.ma.array,
    "objects": lambda x: x.astype(object),
    "texts": lambda x: x.astype(str),
    "complex": lambda x: x.astype(complex),
    "complex tensor": lambda x: torch.from_numpy(x.astype(np.complex64)),
    "without data": lambda x: torch.zeros(x.shape, device="meta"),
    "sparse": lambda x: torch.from_numpy(x.astype(np.float32)).to_sparse(),
    "no array": lambda x: object(),
    "ragged": lambda x: [[1, 2], [3]],
    "missing values": lambda x: pd.DataFrame(x).astype("Int64").where(x > 100) if x.dtype.kind == "u" else "text",
}


@pytest.mark.parametrize(
    ("kind", "place"),
    [*((kind, place) for kind in KINDS for place in ("score", "label")), (Open, "classes"), (Open, "said")],
)
@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_what_is_no_plain_array_of_numbers_is_refused(kind, spoil, place):
    score, label = made()
    given = {"score": score, "label": label, "classes": label * 0, "said": label * 0}
    with pytest.raises(InputError, match=r"^frame 'a'"):
        figures(kind, **{**given, place: spoil(given[place])})


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64, torch.int64, torch.int16])
def test_class_ids_of_every_integer_type(dtype):
    score, label = made()
    plain = np.random.default_rng(5).integers(0, 3, (2, 20, 30)).astype(np.uint8)
    cast = [x.astype(dtype) if isinstance(dtype, type) else torch.from_numpy(x).to(dtype) for x in plain]
    assert figures(Open, score, label, *cast) == figures(Open, score, label, *plain)


def test_more_classes_than_a_byte_holds():
    """The class maps of known pixels may still be bytes."""
    score, label = np.float32([[0.1, 0.9]]), np.uint8([[0, 1]])
    metrics = OpenIoUMetrics([f"c{i}" for i in range(300)], 0.5)
    metrics.update("a", np.uint8([[7, 3]]), score, label, np.uint8([[7, 255]]))
    result = metrics.compute()
    assert (result["closed_miou"], result["anomaly_iou"]) == (1, 1)
    assert (result.confusion[7, 7], result.confusion[300, 300]) == (1, 1)


@pytest.mark.parametrize("kind", [Components, Best, Open])
def test_integers_that_a_float_cannot_tell_apart_are_refused_everywhere(kind):
    _, label = made()
    with pytest.raises(InputError, match=r"frame 'a': score 'score' has integers beyond 2\^53"):
        figures(kind, 2**60 + label.astype(np.int64), label)


@pytest.mark.parametrize("kind", [Components, Best])
@pytest.mark.parametrize("shape", [(600,), (1, 20, 30), (20, 30, 1), (0, 5)])
def test_components_need_height_and_width(kind, shape):
    size = int(np.prod(shape))
    with pytest.raises(InputError, match=r"frame 'a': expected a label of shape \(H, W\)"):
        figures(kind, np.zeros(600, np.float32)[:size].reshape(shape), np.zeros(600, np.uint8)[:size].reshape(shape))


def test_series_are_pixels_in_a_row():
    score, label = made()
    found = figures(Pixels, pd.Series(score.ravel()), pd.Series(label.ravel(), index=range(7, 607)))
    assert found == figures(Pixels, score, label)


class Name(str, enum.Enum):
    A = "a"


@pytest.mark.parametrize("name", [np.str_("a"), Name.A])
def test_ids_become_plain_texts(kind, name):
    score, label = made()
    assert figures(kind, score, label, name=name) == figures(kind, score, label)
    metrics = PixelMetrics()
    metrics.update(name, score, label)
    assert [type(each) for each in metrics.compute().per_frame] == [str]
    frame = Frame(name, np.zeros((20, 30, 3), np.uint8), label)
    assert (type(frame.id), frame.id) == (str, "a")
    json.dumps(frame.id)


@pytest.mark.parametrize("name", [7, np.int64(7), 7.0, None, b"a", ("a",), "bad\udcff"], ids=repr)
def test_other_ids_are_refused_at_the_door(kind, name):
    score, label = made()
    message = "UTF-8" if isinstance(name, str) else r"frame id: expected a str, found .*; convert it with str\(\.\.\.\)"
    with pytest.raises(InputError, match=message):
        figures(kind, score, label, name=name)
    with pytest.raises(InputError, match=message):
        Frame(name, np.zeros((20, 30, 3), np.uint8), label)
    with pytest.raises(InputError, match=message):
        Fingerprint().add(name, label)
    with pytest.raises(InputError, match=message):
        DatasetScores({name: FrameScores(score[0], score[0], 0)})


def test_frames_refuse_arrays_that_are_none():
    image, label = np.zeros((20, 30, 3), np.uint8), made()[1]
    for change in ({"image": image.tolist()}, {"image": np.ma.array(image)}, {"label": np.ma.array(label)}):
        with pytest.raises(InputError, match=r"^frame 'a'"):
            Frame(**{"id": "a", "image": image, "label": label, **change})
    with pytest.raises(InputError, match=r"frame 'a'.*class label"):
        Frame("a", image, label, np.ma.array(label))
    assert Frame("a", torch.from_numpy(image), torch.from_numpy(label)).label.dtype == np.uint8


def test_fingerprints_need_the_labels_own_type():
    """The same label as int64 once had another fingerprint."""
    for label in (np.zeros((2, 3), np.int64), np.zeros(6, np.uint8), np.zeros((2, 3), bool)):
        with pytest.raises(InputError, match=r"frame 'a': expected a label \(H, W\) of uint8"):
            Fingerprint().add("a", label)


def test_conventions_take_each_frame_once_and_any_array():
    score, label = made()
    known, anomaly = np.sort(score[label == 0]), np.sort(score[label == 1])
    expected = CONVENTIONS["ours"]({"a": FrameScores(known, anomaly, 0)})
    assert CONVENTIONS["ours"]([("a", FrameScores(known.tolist(), torch.from_numpy(anomaly), 0))]) == expected
    with pytest.raises(InputError, match="frame 'a': expected every frame once, found it twice"):
        DatasetScores([("a", FrameScores(known, anomaly, 0)), ("a", FrameScores(known[:5], anomaly, 0))])
    with pytest.raises(InputError, match="frame 'a': expected a plain array"):
        DatasetScores({"a": FrameScores(np.ma.array(known), anomaly, 0)})
