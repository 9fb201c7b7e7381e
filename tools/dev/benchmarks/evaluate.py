"""A whole evaluation of 12 images of 2048 x 1024 pixels and five scores, beside the forward passes alone.

The network is a GMMSeg SegFormer MiT-B0 of 19 classes with random weights, at batch 1. The forward passes predict the
same prepared images, in turn with the evaluation. The evaluation of stored maps reads five maps of each image from
disk. A forward pass at this size takes seconds on a CPU (see results/benchmark_scores.json), and there are about 50.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import anomaly
from anomaly import Dataset, Inference
from anomaly.api import configure
from anomaly.api import measure as evaluate_stored
from anomaly.models.views import predict_inputs
from anomaly.results.score_store import ScoreWriter, open_scores
from anomaly.scores.registry import stored_scores
from anomaly.utils.profile import Profile
from benchmarks._frames import SCORES, SIZE, network, write_frames
from benchmarks._measure import all_seconds, machine

FRAMES, REPEATS = 12, 2
CRITERIA = {"ratio": ("at most", 1.10)}


def _evaluate(model: object, dataset: Dataset, profiles: list[Profile]) -> None:
    profiles.append(profile := Profile())
    options: dict[str, Any] = {"inference": Inference(), "closed_set": False, "report_images": 0, "profile": profile}
    anomaly.evaluate(model, dataset, SCORES, **options)
    profile.stop()


def _write_maps(folder: Path, dataset: Dataset) -> None:
    """Write a map of every score and frame, of random values that all differ."""
    random, writer = np.random.default_rng(0), ScoreWriter(folder, dataset=dataset.name, method="random numbers")
    for files in dataset.files:
        for name in SCORES:
            writer.write(files.id, name, random.normal(size=SIZE).astype(np.float32))


def _stored(folder: Path, dataset: Dataset) -> None:
    found = configure(None, stored_scores(SCORES), stores={dataset.name: open_scores(folder)})
    record = {"name": "stored", "type": "stored scores"}
    evaluate_stored(None, [dataset], found, inputs={}, record=record, report_images=0)


def _stages(profile: Profile) -> dict[str, float]:
    """Seconds of the main thread, and those of the threads beside it."""
    beside = {f"{name}_in_background": spent for name, spent in profile.background().items() if spent}
    return {**profile.seconds(), **beside}


def measure() -> dict[str, object]:
    """Median seconds and their median ratio, and the seconds of each stage in the evaluation of median length."""
    model = network()
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_frames(Path(folder), FRAMES)
        prepared = [model.prepare(dataset.image(i)) for i in range(FRAMES)]
        _write_maps(Path(folder, "maps"), dataset)
        _evaluate(model, dataset.limit(1), [])  # warms up

        def forward() -> None:
            for one in prepared:
                predict_inputs(model, one[None])

        profiles: list[Profile] = []
        evaluate = partial(_evaluate, model, dataset, profiles)
        stored = partial(_stored, Path(folder, "maps"), dataset)
        forward_s, evaluate_s, stored_s = all_seconds(forward, evaluate, stored, repeats=REPEATS)
    middle = sorted(range(REPEATS), key=evaluate_s.__getitem__)[REPEATS // 2]
    return {
        **machine(),
        "frames": FRAMES,
        "forward_s": median(forward_s),
        "evaluate_s": median(evaluate_s),
        "ratio": median(a / b for a, b in zip(evaluate_s, forward_s, strict=True)),
        "stages_s": _stages(profiles[middle]),
        "stored_s": median(stored_s),
        "stored_frames_per_s": FRAMES / median(stored_s),
    }
