"""Time of every score per megapixel, beside the forward pass of a GMMSeg SegFormer MiT-B0 of 19 classes."""

from __future__ import annotations

from pathlib import Path

import torch

from anomaly.cli.mmseg_config import read_config
from anomaly.models.base import Prediction
from anomaly.models.views import predict_inputs
from anomaly.scores.registry import Score
from anomaly.scores.sample import draw_pixels, join
from anomaly.scores.statistics import Statistics, fittable
from benchmarks._measure import best_seconds, machine

CONFIG = "configs/gmmseg/segformer-gmmseg_mit-b0_8xb2-80k_cityscapes-768x768.py"
SIZE = (1024, 1024)  # a megapixel, and 48,576 more
CRITERIA = {"largest_share_but_knn": ("at most", 0.1)}


def _statistics(prediction: Prediction, scores: list[Score]) -> Statistics:
    """Statistics of 20,000 pixels of the prediction itself: only the time is measured."""
    classes = prediction.field("logits").shape[1]
    logits = prediction.field("logits")
    labels = torch.arange(logits[0, 0].numel()).view(logits.shape[2:]) % classes
    sample = join(draw_pixels([(prediction, labels)], 20_000, torch.Generator().manual_seed(0)))
    return Statistics.of(sample, scores, images=(), origin={})


def measure() -> dict[str, object]:
    """Milliseconds per megapixel of the forward pass and of each score, resized to the image."""
    from anomaly.models.mmseg import MMSegModel, build_model

    config = read_config(Path(__file__).resolve().parents[3] / CONFIG)
    torch.manual_seed(0)
    model = MMSegModel(config, build_model(config), "cpu")
    inputs = torch.randn(1, 3, *SIZE)
    prediction = predict_inputs(model, inputs)
    scores = fittable(model.gives)
    scores = _statistics(prediction.views[0].prediction, scores).attach(scores)
    megapixels = SIZE[0] * SIZE[1] / 1e6
    (forward,) = best_seconds(lambda: predict_inputs(model, inputs), repeats=5)
    found = {}
    for score in scores:
        one = [score]
        (seconds,) = best_seconds(lambda one=one: prediction.scores(one), repeats=5)  # type: ignore[misc]
        found[score.name] = 1e3 * seconds / megapixels
    shares = {name: value / (1e3 * forward / megapixels) for name, value in found.items()}
    return {
        **machine(),
        "forward_ms_per_megapixel": 1e3 * forward / megapixels,
        "largest_share_but_knn": max(share for name, share in shares.items() if name != "knn"),
        "score_ms_per_megapixel": found,
        "share_of_the_forward_pass": shares,
    }
