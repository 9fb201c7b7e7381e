"""Any function as a detector."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly.datasets.catalog import open_split
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.detectors import FunctionDetector
from anomaly.errors import InputError
from anomaly.evaluator import evaluate
from anomaly.inference import Inference
from anomaly.metrics.pixel import PixelMetrics
from anomaly.scores import get_scores


def brightness(images):
    """Two classes: as bright as it is, and nothing; at half the resolution."""
    logit = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 2)
    return torch.cat([logit, torch.zeros_like(logit)], dim=1)


def test_photograph_is_scaled_and_normalised():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    detector = FunctionDetector(brightness, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    expected = (image / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    assert np.allclose(detector.prepare(image).permute(1, 2, 0), expected, atol=1e-6)
    assert detector.prepare(image[:, ::-1]).dtype == torch.float32  # views are fine


def test_evaluated_as_a_loop_over_frames_measures_it(tmp_path: Path):
    write_street_scenes(tmp_path / "street_scenes", train=0, val=0, open_world=4, size=(48, 64))
    split, metrics = open_split("street_scenes", tmp_path), PixelMetrics()
    detector = FunctionDetector(brightness, classes=("bright", "dark"))
    (found,) = evaluate(detector, [split], get_scores(["max_logit"]), inference=Inference(resolution="input"))
    for frame in split:
        logits = brightness(torch.from_numpy(frame.image).permute(2, 0, 1)[None] / 255)
        logits = torch.nn.functional.interpolate(logits, frame.label.shape, mode="bilinear")
        metrics.update(frame.id, -logits.amax(1)[0].numpy(), frame.label)
    expected = metrics.compute()
    for name in ("auroc", "ap", "fpr95"):
        assert found.scores["max_logit"].figures[name] == pytest.approx(expected[name], abs=1e-6)


def test_more_than_logits_serves_scores_that_need_it():
    def likelihoods(images):
        return {"logits": images, "class_log_likelihood": -images}

    detector = FunctionDetector(likelihoods, gives=("logits", "class_log_likelihood"))
    inputs = torch.rand(1, 3, 4, 4)
    assert torch.equal(get_scores(["gmm_nll"])[0](detector(inputs)), inputs.amin(1))


def test_what_does_not_fit_is_told():
    inputs = torch.rand(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"found shape \(2, 3, 4\)"):
        FunctionDetector(lambda images: images[:, :, 0])(inputs)
    with pytest.raises(InputError, match=r"found shape \(2, 1, 4, 4\)"):
        FunctionDetector(lambda images: images[:, :1])(inputs)
    with pytest.raises(InputError, match="expected logits, found features, logits; name in gives"):
        FunctionDetector(lambda images: {"logits": images, "features": images})(inputs)
    with pytest.raises(InputError, match=r"gives: expected logits .* found \['depth'\]"):
        FunctionDetector(brightness, gives=("logits", "depth"))
    with pytest.raises(InputError, match=r"found \['features'\]"):
        FunctionDetector(brightness, gives=("features",))


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(InputError, match="classes of different names, found 'road' 2 times"):
        FunctionDetector(lambda images: images, classes=("road", "sky", "road"))
