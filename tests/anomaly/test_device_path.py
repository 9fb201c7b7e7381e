"""The path of a GPU against the path of the CPU: NumPy and OpenCV. Without a GPU, tensors of the CPU take it."""

import pickle
import re
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from PIL import Image

from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.evaluator import calibrate, evaluate
from anomaly.evaluation.score_maps import ScoreMaps, resize_score, resize_tensor
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from anomaly.metrics import exact, on_device
from anomaly.metrics.functional.components import Track
from anomaly.metrics.functional.curve import tally
from anomaly.metrics.on_device import ends
from anomaly.metrics.on_device import tally as on_device_tally
from anomaly.metrics.pixel import PixelMetrics
from anomaly.models import views
from anomaly.models.base import Prediction
from anomaly.models.mmseg import MMSegModel, build_model
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel, pick_device
from anomaly.models.views import ImagePrediction, predict_inputs
from anomaly.postprocessing.table import Chain, Context, Step, parse_chain
from anomaly.results.remarks import SeenValues
from anomaly.scores.registry import get_scores
from anomaly.utils import devices
from tests.anomaly import tiny_segmentor
from tests.anomaly.test_evaluator import ColourModel, make_dataset
from tests.anomaly.test_postprocess import noise, photo, regions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(23, 31), (1, 40), (40, 1), (5, 2), (1, 1), (64, 96)]


def there(values):
    """A tensor on the GPU, or on the CPU if there is none."""
    return torch.as_tensor(values).to(DEVICE)


def force(patch):
    """Take every tensor for one on a GPU."""
    patch.setattr(devices, "on_device", lambda values: isinstance(values, torch.Tensor))


@pytest.fixture
def forced(monkeypatch):
    force(monkeypatch)


def test_only_tensors_of_a_gpu_are_on_a_device():
    class OnGpu:
        device = torch.device("cuda", 1)

    assert devices.on_device(OnGpu())
    others = [np.zeros(2), [1.0], torch.zeros(2), torch.zeros(2, device="meta"), None]
    assert not any(devices.on_device(each) for each in others)


# ---- resizing


@settings(max_examples=100, deadline=None)
@given(
    sides=st.tuples(*[st.integers(2, 60)] * 4) | st.tuples(*[st.integers(200, 900)] * 4),
    seed=st.integers(0, 99),
)
def test_resize_is_opencvs(sides, seed):
    score = noise(sides[:2], seed)
    expected, found = resize_score(score, sides[2:]), resize_tensor(there(score), sides[2:]).cpu().numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(score).max())


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (1, 900), (6, 9)])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (13, 17), (700, 300), (3, 4), (12, 18)])
def test_resize_of_single_rows_and_columns(shape, size):
    score = noise(shape)
    found = resize_tensor(there(score), size).cpu().numpy()
    assert found.shape == size
    np.testing.assert_allclose(found, resize_score(score, size), rtol=0, atol=1e-4 * np.abs(score).max())


# ---- post-processing


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["noise", "ties", "constant", "large"])
@pytest.mark.parametrize(
    "text",
    [
        *("boundary", "boundary:width=2", "boundary:width=40", "smooth", "smooth:sigma=0.4", "smooth:sigma=30"),
        *("dilated_smoothing", "dilated_smoothing:size=1", "dilated_smoothing:size=3:sigma=2:dilation=50"),
        *("guided", "guided:radius=1", "guided:radius=60:eps=0.1", "never:names=b", "roi:mask=MASK"),
        "boundary,dilated_smoothing,guided,never:names=a",
    ],
)
def test_every_step_gives_what_it_gives_on_the_cpu(forced, tmp_path, shape, kind, text):
    if shape == (64, 96) and "width=40" not in text and kind != "noise":
        return  # enough
    mask = np.random.default_rng(3).integers(0, 2, shape, dtype=np.uint8)
    mask[0, 0] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    score = {
        "noise": noise(shape),
        "ties": np.round(noise(shape) / 4).astype(np.float32),
        "constant": np.full(shape, -3.3, np.float32),
        "large": noise(shape) * np.float32(1e30),
    }[kind]
    chain = parse_chain(text.replace("MASK", str(tmp_path / "mask.png")))
    context = Context("f", photo(shape), regions(shape), ("a", "b", "c"))
    expected = chain(score, context)
    found = chain(there(score), replace(context, classes=there(context.classes)))
    assert (found.device.type, found.dtype) == (DEVICE.type, torch.float32)
    np.testing.assert_allclose(found.cpu(), expected, rtol=0, atol=1e-6 * np.abs(score).max())
    assert torch.equal(chain(there(score), context), found)  # classes as an array


def test_step_without_a_twin_gets_arrays(forced):
    def halved(score, classes, *, by):
        assert isinstance(score, np.ndarray)
        assert isinstance(classes, np.ndarray)
        return score / by

    step = Step("halved", halved, ("classes",), "this test")
    chain, score = Chain("halved", ((step, partial(halved, by=2)),)), noise((4, 5))
    context = Context("f", photo((4, 5)), there(regions((4, 5))))
    assert torch.equal(chain(there(score), context), there(score / np.float32(2)))


def test_refusals_of_masks_and_classes_hold_there_too(forced, tmp_path):
    score, context = (
        there(torch.zeros(3, 4)),
        Context("f", photo((3, 4)), torch.zeros(3, 4, dtype=torch.long), ("a", "b")),
    )
    Image.fromarray(np.ones((4, 3), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="roi: expected a mask of the image's size, 4x3"):
        parse_chain(f"roi:mask={tmp_path / 'mask.png'}")(score, context)
    with pytest.raises(InputError, match="never: expected names of the network's classes"):
        parse_chain("never:names=sky")(score, context)


# ---- metrics

DTYPES = ["float16", "bfloat16", "float32", "float64", "bool", "uint8", "int16", "int32", "int64"]


def labels_of(shape, seed, values=(KNOWN, ANOMALY, IGNORE)):
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), shape)


def state_of(metrics):
    header, arrays = metrics.state()
    arrays = [np.sort(each) if metrics.mode == "binned" else each for each in arrays]  # which keeps them as they come
    return header, [(each.dtype, each.tobytes()) for each in arrays]


@pytest.mark.parametrize("mode", ["exact", "binned"])
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    values=st.sampled_from([(0, 1, 255), (0,), (1,), (255,), (0, 0, 0, 0, 1), (0, 255)]),
    seed=st.integers(0, 999),
    label_there=st.booleans(),
)
def test_pixel_metrics_are_those_of_numpy_bit_for_bit(mode, dtype, shape, values, seed, label_there):
    generator = torch.Generator().manual_seed(seed)
    score = (torch.randn(shape, generator=generator) * 5).round(decimals=seed % 3)  # with ties, 0.0 and -0.0
    score = (score * 20).abs().to(getattr(torch, dtype)) if dtype == "uint8" else score.to(getattr(torch, dtype))
    label = labels_of(shape, seed, values)
    expected, found = (PixelMetrics("msp", mode=mode) for _ in range(2))
    expected.update("a", score, label)
    with pytest.MonkeyPatch.context() as patch:
        force(patch)
        found.update("a", there(score), there(label) if label_there else label)
        found.update("a", there(score), label)  # once more, which counts once
    assert state_of(found) == state_of(expected)


def test_sorted_runs_are_numpys(forced):
    score, label = torch.from_numpy(noise((300, 500)).round(1)), labels_of((300, 500), 0)
    score[0, :3], label[0, :3] = torch.tensor([-0.0, 0.0, -1.0]), KNOWN
    metrics = PixelMetrics()
    metrics.update("a", there(score), label)
    ((_, frame),) = metrics.frames()
    for kind, run in ((KNOWN, frame.known), (ANOMALY, frame.anomaly)):
        assert run.tobytes() == np.sort(score.numpy()[label == kind] + 0.0).tobytes()
    assert not np.signbit(frame.known[frame.known == 0]).any()
    assert frame.ignored == (label == IGNORE).sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [KNOWN, ANOMALY, IGNORE])
def test_scores_that_are_not_finite_are_refused_wherever_they_are(forced, bad, place):
    label = np.uint8([[KNOWN, ANOMALY, IGNORE]])
    score = np.where(label == place, np.float32(bad), np.float32(1))
    metrics = PixelMetrics("msp")
    with pytest.raises(InputError, match="score 'msp' has 1 NaN or infinite values of 3"):
        metrics.update("a", there(score), label)
    assert metrics.num_known + metrics.num_anomaly == 0


def test_wrong_labels_shapes_and_frames_are_refused(forced):
    metrics, score = PixelMetrics("msp"), there(torch.zeros(2, 3))
    for label in (np.full((2, 3), 7, np.uint8), there(torch.full((2, 3), 7))):
        with pytest.raises(InputError, match=r"label values must be .* found \[7\]"):
            metrics.update("a", score, label)
    with pytest.raises(InputError, match=r"shape \(2, 3\), expected the label's \(3, 2\)"):
        metrics.update("a", score, np.zeros((3, 2), np.uint8))
    with pytest.raises(InputError, match="complex"):
        metrics.update("a", score.to(torch.complex64), np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="beyond 2\\^53"):
        metrics.update("a", there(torch.full((2, 3), 2**60)), np.zeros((2, 3), np.uint8))
    metrics.update("a", score, np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="seen before with other scores"):
        metrics.update("a", score + 9, np.zeros((2, 3), np.uint8))
    assert metrics.num_known == 6


def test_a_repeat_is_recognised_across_devices(monkeypatch):
    score, label = noise((200, 300)), labels_of((200, 300), 1)
    metrics = PixelMetrics()
    metrics.update("a", score, label)
    force(monkeypatch)
    metrics.update("a", there(score), there(label))
    assert metrics.num_known == (label == KNOWN).sum()


@pytest.mark.parametrize("values", [(0, 1, 255), (0,), (255,), (1, 255)])
def test_ends_of_the_counted_pixels(forced, values):
    score, label = noise((30, 40)), labels_of((30, 40), 2, values)
    counted = score[label != IGNORE]
    expected = (counted.min(), counted.max()) if counted.size else None
    assert ends(there(score), there(label)) == expected
    seen = SeenValues()
    seen.add("a", there(np.full((30, 40), 2, np.float32)), label)
    assert bool(seen.remarks(0.5)) == (expected is not None)


def test_a_label_is_brought_and_split_once_for_all_scores(forced, monkeypatch):
    label, sorts = labels_of((30, 40), 5), []
    sort = torch.Tensor.sort
    monkeypatch.setattr(torch.Tensor, "sort", lambda values, **how: sorts.append(how) or sort(values, **how))
    maps = ScoreMaps({name: there(noise((30, 40), seed)) for seed, name in enumerate("abc")})
    shared = maps.beside(label)
    for name, score in maps.kept.items():
        alone, together = PixelMetrics(name), PixelMetrics(name)
        together.update("f", score, shared)
        alone.update("f", score, label)
        assert state_of(together) == state_of(alone)
    assert sum(bool(how) for how in sorts) == 1 + 3  # stable sorts of the label: once for all, and once for each


@pytest.mark.parametrize("kinds", [("float32", "float32"), ("float64", "float64"), ("float32", "float64")])
@settings(max_examples=60, deadline=None)
@given(sizes=st.tuples(st.integers(0, 300), st.integers(0, 80)), digits=st.integers(0, 6), seed=st.integers(0, 999))
def test_counts_at_the_scores_of_anomalies_are_those_of_a_loop_and_of_numpy(kinds, sizes, digits, seed):
    random = np.random.default_rng(seed)
    known, anomaly = (
        random.normal(size=size).round(digits).astype(kind) + 0.0 for size, kind in zip(sizes, kinds, strict=True)
    )
    found = on_device.tally(known.copy(), anomaly.copy(), DEVICE)
    values = sorted(set(anomaly.tolist()))
    assert found.thresholds.tolist() == values
    assert found.hits.tolist() == [sum(anomaly == value) for value in values]
    assert found.below.tolist() == [sum(one < value for one in known.tolist()) for value in values]
    assert found.ties.tolist() == [sum(one == value for one in known.tolist()) for value in values]
    for mine, numpys in zip(found, tally(known, anomaly), strict=True):
        assert (mine.dtype, mine.tobytes()) == (numpys.dtype, numpys.tobytes())


def test_counts_are_numpys_where_the_device_has_no_room(monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    known, anomaly = noise((30, 40)).ravel(), noise((3, 40), 1).ravel()
    expected = on_device.tally(known.copy(), anomaly.copy(), DEVICE)
    monkeypatch.setattr(torch.Tensor, "unique", full)
    found = on_device.tally(known, anomaly, DEVICE)
    assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]


@pytest.mark.parametrize("budget", [2**30, 1])
@pytest.mark.parametrize("digits", [1, 9])
def test_pooled_curves_of_many_blocks_are_numpys(monkeypatch, tmp_path, budget, digits):
    """With ties and without, from memory and from disk; NumPy takes over after a pickle."""
    monkeypatch.setattr(exact, "BLOCK", 4 * exact.STRIDE)
    options = {"memory_budget": budget, "spill_dir": tmp_path, "threshold": 3.0}
    frames = [
        (str(i), torch.from_numpy(noise((90, 200), i)).round(decimals=digits), labels_of((90, 200), i, (0, 0, 1, 255)))
        for i in range(4)
    ]
    expected, found = PixelMetrics(**options), PixelMetrics(**options)
    counted = []
    monkeypatch.setattr(
        on_device, "tally", lambda *args, device: counted.append(device) or on_device_tally(*args, device)
    )
    for frame, score, label in frames:
        expected.update(frame, score.numpy(), label)
    with pytest.MonkeyPatch.context() as patch:
        force(patch)
        for frame, score, label in frames:
            found.update(frame, there(score), label)
    wanted = expected.compute()
    assert not counted
    assert found.compute() == wanted
    assert len(counted) > 5
    assert {device.type for device in counted} == {DEVICE.type}
    if budget > 1:
        counted.clear()
        assert pickle.loads(pickle.dumps(found)).compute() == wanted
        assert not counted


# ---- the whole evaluation


class OnDevice(ColourModel):
    """Computes on the CPU, and moves its predictions to the GPU."""

    device = DEVICE

    def __call__(self, inputs):
        found = super().__call__(inputs)
        return Prediction(there(found.logits), there(found.class_log_likelihood))


class Kept(Callback):
    """Keeps what callbacks are given; reads the maps of the first frame only."""

    needs_curves = True

    def __init__(self):
        self.frames = {}

    def wants_classes(self, dataset, frame_id):
        return frame_id == "f1"

    def on_frame(self, result):
        self.frames[result.frame.id] = result


@pytest.mark.parametrize(
    ("post", "exact"),
    [(["none"], True), (["none", "boundary,dilated_smoothing", "guided"], False)],
)
@pytest.mark.parametrize("mode", ["exact", "binned"])
def test_an_evaluation_gives_the_same_values(tmp_path, monkeypatch, post, exact, mode):
    # maps have half the size of the image, and are resized to the input by torch on both paths
    dataset, scores = make_dataset(tmp_path), get_scores(["msp", "entropy", "gmm_nll"])
    chains = [parse_chain(text) for text in post]
    config = MetricConfig(mode=mode, track=Track("anomaly_track", 4, 1))

    def run(model):
        kept = Kept()
        kept.needs_curves = mode == "exact"
        (result,) = evaluate(model, [dataset], scores, post=chains, config=config, callbacks=[kept])
        return result, kept.frames

    expected, of_cpu = run(ColourModel())
    force(monkeypatch)
    found, of_device = run(OnDevice())
    exact &= DEVICE.type == "cpu"  # a GPU rounds scores in another way
    if exact:
        assert found == expected
    for name, result in expected.scores.items():
        for metric, value in result.values.items():
            assert found.scores[name].values[metric] == pytest.approx(value, abs=1e-9 if exact else 2e-3)
    for frame, mine in of_device.items():
        for one, other in ((mine.scores, of_cpu[frame].scores), (mine.raw, of_cpu[frame].raw)):
            assert list(one) == list(other)
            assert isinstance(one.kept["msp"], torch.Tensor)
            for name, values in one.items():
                assert isinstance(values, np.ndarray)
                assert values.dtype == np.float32
                np.testing.assert_allclose(values, other[name], rtol=1e-4)
        assert (mine.classes is not None) == (frame == "f1")
    assert np.array_equal(of_device["f1"].classes, of_cpu["f1"].classes)


class Shrinking(ColourModel):
    """Resizes images to another size first, so that score maps are resized to the label."""

    def prepare(self, image):
        return torch.nn.functional.interpolate(super().prepare(image)[None], (18, 27))[0]


class ShrinkingOnDevice(OnDevice, Shrinking):
    """Moves its predictions to the GPU."""


def test_an_evaluation_with_a_resize_differs_by_rounding(tmp_path, monkeypatch):
    dataset, scores = make_dataset(tmp_path), get_scores(["msp", "max_logit"])
    (expected,) = evaluate(Shrinking(), [dataset], scores)
    force(monkeypatch)
    (found,) = evaluate(ShrinkingOnDevice(), [dataset], scores)
    for name, result in expected.scores.items():
        for metric in ("auroc", "ap", "fpr95"):
            assert found.scores[name].values[metric] == pytest.approx(result.values[metric], abs=2e-4)


def test_thresholds_are_the_same(tmp_path, monkeypatch):
    dataset, scores = make_dataset(tmp_path), get_scores(["msp"])
    post = [parse_chain("never:names=a")]
    models = ColourModel(), OnDevice()
    for model in models:
        model.classes = ("a", "b", "c", "d")
    expected = calibrate(models[0], Calibration(dataset, "best_f1"), scores, post=post)["msp+never:names=a"]
    force(monkeypatch)
    found = calibrate(models[1], Calibration(dataset, "best_f1"), scores, post=post)["msp+never:names=a"]
    assert found.value == pytest.approx(expected.value, rel=0 if DEVICE.type == "cpu" else 1e-5)
    assert found.images == expected.images


def test_maps_are_copied_when_they_are_read_and_once(monkeypatch):
    copied = []
    monkeypatch.setattr(devices, "to_numpy", lambda values: copied.append(values) or values.cpu().numpy())
    maps = ScoreMaps({"a": there(torch.ones(2, 2)), "b": there(torch.zeros(2, 2))})
    assert (list(maps), len(maps), "a" in maps, "c" in maps, copied) == (["a", "b"], 2, True, False, [])
    assert maps["a"] is maps["a"]
    assert len(copied) == 1
    assert ScoreMaps(maps).kept is maps.kept


# ---- the model


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda", 1), torch.device("cpu"), None])
def test_bfloat16_is_that_of_the_device_of_the_model(monkeypatch, device):
    opened = []

    def autocast(kind, dtype, enabled):
        opened.append((kind, dtype, enabled))
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    model = ColourModel()
    if device is not None:
        model.device = device
    for precision in ("bfloat16", "float32"):
        predict_inputs(model, torch.zeros(1, 3, 4, 6), Inference(precision=precision))
    kind = "cpu" if device is None else torch.device(device).type
    assert opened == [(kind, torch.bfloat16, True), (kind, torch.bfloat16, False)]


@pytest.mark.parametrize("size", [None, (3, 5)])
def test_an_image_is_normalised_where_the_network_is(size):
    image = photo((6, 8))
    settings = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "size": size}
    there = TorchModel(torch.nn.Conv2d(3, 2, 1), device="meta", **settings).prepare(image)
    here = TorchModel(torch.nn.Conv2d(3, 2, 1), device="cpu", **settings).prepare(image)
    assert (there.device.type, there.dtype, there.shape) == ("meta", torch.float32, here.shape)
    mean, std = (np.float32(settings[name])[:, None, None] for name in ("mean", "std"))
    if size is None:
        scaled = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        assert np.array_equal(here.numpy(), (scaled - mean) / std)


def test_a_config_is_normalised_where_the_network_is(tmp_path):
    closed = tiny_segmentor.write_closed_set(tmp_path / "closed")
    config = Config.fromfile(tiny_segmentor.write_config(tmp_path / "tiny.py", closed))
    network = build_model(config)
    network.decode_head.conv_seg = torch.nn.Conv2d(16, 4, 1, bias=False)  # the adapter copies one with a bias
    inputs = MMSegModel(config, network, "meta").prepare(photo((20, 30)))
    assert (inputs.device.type, inputs.dtype) == ("meta", torch.float32)


class Greedy(ColourModel):
    """Fails as a GPU does whose memory holds so many pixels, and has no other sizes than these if they are given."""

    def __init__(self, pixels, sizes=()):
        super().__init__()
        self.pixels, self.sizes = pixels, sizes

    def __call__(self, inputs):
        if inputs.shape[0] * inputs.shape[2] * inputs.shape[3] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.sizes and tuple(inputs.shape[2:]) not in self.sizes:
            raise InputError("this network takes one size only")
        return super().__call__(inputs)


@pytest.mark.parametrize(
    ("pixels", "batch", "sizes", "told"),
    [
        (2 * 256 * 512, 8, (), "a batch of 8 inputs of 512x256 .*: a batch of 2 fits; use --batch 2$"),
        (7 * 256 * 512, 8, (), "a batch of 4 fits; use --batch 4$"),
        (3 * 256 * 512, 4, (), "a batch of 2 fits; use --batch 2$"),
        (256 * 512 - 1, 8, (), r"a window of 256x256 \(height x width\) fits; use --window 256x256 --batch 1$"),
        (128 * 128, 1, (), r"an input of 512x256 .*: a window of 128x128 .* fits; use --window 128x128$"),
        (128 * 128 - 1, 1, (), "use --window 128x64$"),
        (10, 1, (), "no smaller batch or window runs either; free memory"),
        (256 * 256, 2, ((256, 512),), "no smaller batch or window runs either"),
    ],
)
def test_the_message_says_what_fits_into_the_memory(pixels, batch, sizes, told):
    model, inputs = Greedy(pixels, sizes), torch.zeros(batch, 3, 256, 512)
    with pytest.raises(InputError, match=f"out of GPU memory for .*{told}"):
        predict_inputs(model, inputs, Inference(batch=batch))
    if found := re.search(r"--window (\d+)x(\d+)", told):  # which is followed
        predict_inputs(model, inputs[:1], Inference(window=(int(found[1]), int(found[2]))))
    elif found := re.search(r"--batch (\d+)$", told):
        predict_inputs(model, inputs[: int(found[1])], Inference(batch=int(found[1])))


@pytest.mark.parametrize(("resolution", "told"), [("input", "--score-at features"), ("features", "smaller windows")])
def test_the_message_says_which_scores_need_less(resolution, told):
    def greedy(logits):
        raise torch.OutOfMemoryError("CUDA out of memory")

    (msp,) = get_scores(["msp"])
    prediction = predict_inputs(ColourModel(), torch.zeros(1, 3, 20, 30), Inference(resolution=resolution))
    with pytest.raises(InputError, match=f"out of GPU memory for the scores of an input of 30x20: .*{told}"):
        prediction.scores([replace(msp, function=greedy)])


@pytest.mark.parametrize("name", ["cuda:7", "cuda", "mps", "xpu", "nonsense", "cuda:x", 3])
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    with pytest.raises(InputError, match=f"device {name!r}: expected one that torch has here, such as cpu") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_model_that_returns_nothing_is_not_taken_for_a_lack_of_memory():
    model = ColourModel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ColourModel, "__call__", lambda self, inputs: None)
        with pytest.raises(InputError, match=r"expected it to return .*, found NoneType"):
            predict_inputs(model, torch.zeros(1, 3, 4, 6))


class FakeStream:
    """Stands for a stream of a GPU, and notes what happens to it."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("enter")

    def __exit__(self, *error):
        self.log.append("exit")

    def synchronize(self):
        self.log.append("synchronize")


@pytest.mark.parametrize("error", [None, torch.OutOfMemoryError, KeyError])
def test_scores_have_a_stream_of_their_own_which_is_waited_for(monkeypatch, error):
    log = []
    stream = FakeStream(log)
    monkeypatch.setattr(views, "_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda found: found)
    monkeypatch.setattr(ImagePrediction, "device", torch.device("cuda", 0))
    prediction = ImagePrediction([], (3, 4), Inference())
    expected = {None: nullcontext(), KeyError: pytest.raises(KeyError)}
    with expected.get(error, pytest.raises(InputError, match="out of GPU memory")), views.scoring_stream(prediction):
        log.append("work")
        if error is not None:
            raise error("out")
    assert log == ["enter", "work", "synchronize", "exit"]


def test_on_the_cpu_there_is_no_stream(monkeypatch):
    monkeypatch.setattr(views, "_stream", None)
    prediction = predict_inputs(ColourModel(), torch.zeros(1, 3, 4, 6))
    for each in (prediction, None):
        with views.scoring_stream(each):
            pass
