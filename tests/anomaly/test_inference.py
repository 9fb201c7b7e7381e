"""Windows, mirror images and scales against naive loops, with a model that tells what it was shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logsumexp

from anomaly.errors import InputError
from anomaly.models.base import Prediction
from anomaly.models.tiling import Inference
from anomaly.models.views import predict_inputs
from anomaly.scores import SCORES, get_scores
from tests.oracles import bilinear


class Blurring:
    """Logits are a 3x3 blur of the input (so borders of windows matter), at full or half resolution, perhaps padded."""

    gives = frozenset(["logits"])
    classes = ()

    def __init__(self, stride=1, divisor=1, skew=False):
        self.stride, self.divisor, self.skew, self.shapes = stride, divisor, skew, []

    def prepare(self, image):
        return torch.from_numpy(image).permute(2, 0, 1).float()

    def __call__(self, inputs):
        self.shapes.append(tuple(inputs.shape))
        height, width = (-side % self.divisor for side in inputs.shape[2:])
        inputs = F.pad(inputs, (0, width, 0, height))
        maps = F.avg_pool2d(inputs, 3, 1, 1)
        if self.skew:
            maps = maps + torch.arange(maps.shape[3])  # knows left from right
        return Prediction(maps[:, :, :: self.stride, :: self.stride], covers=tuple(inputs.shape[2:]))


def inputs(height=20, width=27, count=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def logits_of(inference, model, x):
    return predict_inputs(model, x, inference).class_maps(Prediction.class_values)


def tent(length):
    return [min(i + 0.5, length - i - 0.5) * 2 / length for i in range(length)]


@pytest.mark.parametrize(
    ("window", "stride"), [((8, 8), (4, 6)), ((8, 9), None), ((20, 5), (20, 5)), ((7, 64), (3, 3)), ((64, 64), (9, 9))]
)
@pytest.mark.parametrize("batch", [1, 5])
def test_windows_fade_into_each_other(window, stride, batch):
    x, model = inputs(), Blurring()
    found = logits_of(Inference(window=window, stride=stride, batch=batch), model, x)
    down, across = stride or (window[0] * 2 // 3, window[1] * 2 // 3)
    height, width = min(window[0], 20), min(window[1], 27)
    total, weights = np.zeros((3, 20, 27)), np.zeros((20, 27))
    tops = [*range(0, max(20 - height, 0), down), 20 - height]
    lefts = [*range(0, max(27 - width, 0), across), 27 - width]
    for top in sorted(set(tops)):
        for left in sorted(set(lefts)):
            part = Blurring()(x[:, :, top : top + height, left : left + width]).logits[0].numpy()
            for i in range(height):
                for j in range(width):
                    weight = tent(height)[i] * tent(width)[j]
                    total[:, top + i, left + j] += weight * part[:, i, j]
                    weights[top + i, left + j] += weight
    np.testing.assert_allclose(found[0], total / weights, rtol=1e-4, atol=1e-5)
    assert max(shape[0] for shape in model.shapes) <= batch
    assert sum(shape[0] for shape in model.shapes) == len(set(tops)) * len(set(lefts))


def test_mirror_image_is_mirrored_back():
    x, model = inputs(), Blurring(skew=True)
    plain, ramp = Blurring()(x).logits, torch.arange(27.0)
    torch.testing.assert_close(logits_of(Inference(flip=True), model, x), plain + (ramp + ramp.flip(0)) / 2)
    assert len(model.shapes) == 2


def test_mirror_image_of_what_is_padded():
    x = inputs(20, 27)
    found = logits_of(Inference(flip=True), Blurring(divisor=16), x)
    inner = found[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, Blurring()(x).logits[:, :, 1:-1, 1:-1])


def test_scales_are_averaged():
    x, model = inputs(20, 28), Blurring()
    found = logits_of(Inference(scales=(1.0, 0.5, 2.0)), model, x)
    expected = [Blurring()(x).logits]
    for size in ((10, 14), (40, 56)):
        small = F.interpolate(x, size, mode="bilinear", antialias=True)
        expected.append(F.interpolate(Blurring()(small).logits, (20, 28), mode="bilinear", antialias=True))
    torch.testing.assert_close(found, torch.stack(expected).mean(0))
    assert [shape[2:] for shape in model.shapes] == [(20, 28), (10, 14), (40, 56)]


@pytest.mark.parametrize("resolution", ["features", "input"])
def test_where_scores_are_computed(resolution):
    x, model = inputs(20, 28, count=2), Blurring(stride=2, divisor=8)
    inference, scores = Inference(resolution=resolution), get_scores(["msp", "energy"])
    found = predict_inputs(model, x, inference).scores(scores)
    maps = model(x).logits
    for name in ("msp", "energy"):
        if resolution == "features":
            expected = F.interpolate(SCORES[name].function(maps)[:, None], (24, 32), mode="bilinear")[:, 0]
        else:
            expected = SCORES[name].function(F.interpolate(maps, (24, 32), mode="bilinear"))
        torch.testing.assert_close(found[name], expected[:, :20, :28])


PEAK = np.array([[3.0, 2.0], [4.0, -np.inf], [-np.inf, -np.inf]])
"""Of the components of three classes: the second has one of two, the third none."""


class Generative(Blurring):
    """Components, at half resolution, below their peaks by what the image says; those without a peak are not there."""

    gives = frozenset(["logits", "component_log_prob", "component_peak"])

    def __call__(self, inputs):
        seen = super().__call__(inputs)
        peak = torch.tensor(PEAK, dtype=torch.float32)
        below = torch.stack([seen.logits.square(), 3 * seen.logits.abs()], dim=2)
        log_prob = peak[:, :, None, None] - below
        return Prediction(seen.logits, component_log_prob=log_prob, component_peak=peak, covers=seen.covers)


@pytest.mark.parametrize("resolution", ["features", "input"])
def test_components_that_are_not_there(resolution):
    x, model = inputs(20, 28, count=2), Generative(stride=2, divisor=8)
    inference, prior = Inference(resolution=resolution), np.array([0.5, 0.2, 0.3])
    marginal, empirical, nearest = get_scores(["marginal_nll", "empirical_nll", "nearest_component"])
    empirical = replace(empirical, statistics={"log_prior": torch.tensor(prior).log()})
    prediction = predict_inputs(model, x, inference)
    found = prediction.scores([marginal, empirical, nearest])

    there = np.isfinite(PEAK)
    log_prob = model(x).component_log_prob.double().numpy()[:, there]  # (B, 3, h, w)
    log_prior = np.log(prior)[there.nonzero()[0]][:, None, None]
    if resolution == "input":
        log_prob = bilinear(log_prob, 24, 32)
    expected = {
        "marginal_nll": np.log(3) - logsumexp(log_prob, axis=1),
        "empirical_nll": -logsumexp(log_prob + log_prior, axis=1),
        "nearest_component": 2 * (PEAK[there][:, None, None] - log_prob).min(1),
    }
    for name, score in expected.items():
        score = score if resolution == "input" else bilinear(score, 24, 32)
        np.testing.assert_allclose(found[name], score[:, :20, :28], rtol=1e-4, atol=1e-4)
    resized = prediction.views[0].prediction.resized((20, 28), {"component_log_prob"}).component_log_prob
    assert (resized.isneginf() == torch.tensor(~there)[:, :, None, None]).all()


class WithOutliers(Blurring):
    """Three classes and outliers, at half resolution; no training pixel had the second class."""

    gives = frozenset(["class_log_likelihood", "outlier_log_likelihood"])

    def __call__(self, inputs):
        seen = super().__call__(inputs)
        likelihood = -50 * seen.logits.square()
        likelihood[:, 1] = -1e9
        outliers = -9 * seen.logits.abs().sum(1)
        return Prediction(class_log_likelihood=likelihood, outlier_log_likelihood=outliers, covers=seen.covers)


def outlier_ratio(prediction):
    """In float64: ``(B, h, w)`` of a prediction of three classes."""
    likelihood = prediction.class_log_likelihood.double().numpy()
    return prediction.outlier_log_likelihood.double().numpy() - logsumexp(likelihood, axis=1) + np.log(3)


@pytest.mark.parametrize("resolution", ["features", "input"])
def test_outliers_are_resized_with_the_classes(resolution):
    x, model = inputs(20, 28, count=2), WithOutliers(stride=2, divisor=8)
    found = predict_inputs(model, x, Inference(resolution=resolution)).scores(get_scores(["outlier_ratio"]))
    plain = model(x)
    if resolution == "features":
        expected = bilinear(outlier_ratio(plain), 24, 32)
    else:
        maps = ("class_log_likelihood", "outlier_log_likelihood")
        resized = {name: torch.tensor(bilinear(getattr(plain, name).double().numpy(), 24, 32)) for name in maps}
        expected = outlier_ratio(Prediction(**resized))
    np.testing.assert_allclose(found["outlier_ratio"], expected[:, :20, :28], rtol=1e-4, atol=1e-3)


def test_outliers_in_windows():
    """Two windows side by side, blended by their tents."""
    x, model = inputs(8, 12), WithOutliers()
    found = predict_inputs(model, x, Inference(window=(8, 8), stride=(8, 4))).scores(get_scores(["outlier_ratio"]))
    total, weights = np.zeros((1, 8, 12)), np.zeros((8, 12))
    for left in (0, 4):
        weight = np.outer(tent(8), tent(8))
        total[:, :, left : left + 8] += weight * outlier_ratio(model(x[:, :, :, left : left + 8]))
        weights[:, left : left + 8] += weight
    np.testing.assert_allclose(found["outlier_ratio"], total / weights, rtol=1e-4, atol=1e-3)


def test_only_what_scores_read_is_resized(monkeypatch):
    resized, resize = [], Prediction.resize
    monkeypatch.setattr(Prediction, "resize", lambda self, maps, size: resized.append(maps) or resize(self, maps, size))
    x, model, inference = inputs(20, 28), Generative(stride=2, divisor=8), Inference(resolution="input")
    found = predict_inputs(model, x, inference)
    for names, fields in (["msp"], ["logits"]), (["msp", "marginal_nll"], ["logits", "component_log_prob"]):
        found.scores(get_scores(names))
        maps = [getattr(found.views[0].prediction, field) for field in fields]
        assert [each.shape for each in resized[:-1]] == [each.shape for each in maps]
        resized.clear()


def test_bfloat16_is_close():
    class Multiplying(Blurring):
        def __call__(self, x):
            weight = torch.eye(3)[:, :, None, None] * 0.37
            return Prediction(F.conv2d(x, weight).float(), covers=tuple(x.shape[2:]))

    x = inputs()
    exact, rough = (logits_of(Inference(precision=p), Multiplying(), x) for p in ("float32", "bfloat16"))
    assert 0 < (exact - rough).abs().max() < 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": (0, 4)}, "window: expected a height and a width of 1 or more, found 0x4"),
        ({"stride": (4, 4)}, "stride: expected a window too, found none"),
        ({"window": (4, 4), "stride": (5, 4)}, "stride 5x4: expected at most the window 4x4"),
        ({"scales": ()}, r"scales: expected numbers from 0.05 to 20, found \(\)"),
        ({"scales": (1.0, float("nan"))}, "scales: expected numbers"),
        ({"batch": 0}, "batch: expected a whole number of 1 or more, found 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        Inference(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": (64, 32)}, "window 64x32 (here the whole)"),
        ({"scales": (0.5, 1.0)}, "scales 0.5 1.0 (here 1.0)"),
        ({"resolution": "input"}, "resolution input (here features)"),
        ({"precision": "bfloat16", "window": (8, 8)}, "window 8x8 (here the whole), precision bfloat16 (here float32)"),
        ({"flip": True, "batch": 3}, ""),
        ({}, ""),
    ],
)
def test_settings_that_differ_from_those_of_a_fit_are_described(settings, message):
    assert Inference().differences(Inference(**settings).record()) == message


def test_windows_beyond_reason_are_refused():
    with pytest.raises(
        InputError, match=r"window 1x1: expected at most 4096 windows in an image, found 5000 in 50x100"
    ):
        list(Inference(window=(1, 1), stride=(1, 1)).views((50, 100)))
