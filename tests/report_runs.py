"""Small runs with reports: images of noise, networks that are a few numbers, and names that mean harm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from anomaly.datasets.dataset import Dataset, FrameFiles
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.run import Evaluation, run
from anomaly.metrics.functional.components import TRACKS
from anomaly.models.base import Prediction
from anomaly.report.html import write_page
from anomaly.report.views import ViewCallback
from anomaly.results.records import ClosedSet, write_results
from anomaly.scores.registry import get_scores
from anomaly.utils.files import staged
from tests.anomaly import set_trees

HOSTILE = "<img src=x onerror=hacked()>"
FRAMES = (f"{HOSTILE}.jpg", "plain", "</script><script>hacked()<!--", "without anomaly", "large", "b&amp;c \u2028 '\"")
CLASSES = ("road", f"sky{HOSTILE}", "</script><b>tree", "car", "{{ 7 * 7 }}", "pole")
SIZES = {"large": (400, 880)}
SET = "street<svg onload=hacked()>"


class Network:
    """Logits from the colours of blocks of 4 x 4 pixels; likelihoods too, if it is generative."""

    def __init__(self, seed: int, generative: bool) -> None:
        self.gives = frozenset({"logits", "class_log_likelihood"} if generative else {"logits"})
        self.classes = CLASSES
        self._weight = torch.randn(len(CLASSES), 3, 4, 4, generator=torch.Generator().manual_seed(seed)) / 8

    def prepare(self, image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image).permute(2, 0, 1).float() / 64

    def __call__(self, inputs: torch.Tensor) -> Prediction:
        logits = torch.nn.functional.conv2d(inputs, self._weight, stride=4)
        return Prediction(logits, 3 * logits - 40 if "class_log_likelihood" in self.gives else None)


def write_split(root: Path) -> Dataset:
    """Write images that are brighter where they are anomalous; files have plain names, frames have not."""
    files = []
    for seed, name in enumerate(FRAMES):
        height, width = SIZES.get(name, (92, 120))
        random = np.random.default_rng(seed)
        label = np.sort(random.integers(0, len(CLASSES), (1, width)).repeat(height, 0).astype(np.uint8))
        label[height // 4 : height // 2, width // 3 : width // 2] = len(CLASSES) if name != "without anomaly" else 0
        label[-8:] = 255
        image = np.kron(random.integers(0, 120, (height // 4, width // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        image[label == len(CLASSES)] += np.uint8(60)
        image = set_trees.write(root / f"{seed}.png", image)
        files.append(FrameFiles(name, image, set_trees.write(root / f"{seed}_label.png", label)))
    meaning = {**dict.fromkeys(range(len(CLASSES)), 0), len(CLASSES): 1, 255: 255}
    return Dataset(SET, root, "files", tuple(files), meaning, classes=CLASSES)


def write_run(
    out: Path,
    split: Dataset,
    *,
    seed: int,
    generative: bool,
    name: str,
    frames: int = 60,
    calibration: Calibration | None = None,
    scores: tuple[str, ...] = (),
    save_states: bool = False,
    settings: dict | None = None,
    components: bool = False,
) -> Path:
    """Evaluate, with a report; give the path of ``results.json``."""
    closed = ClosedSet("street<b>", 4, 0.5, 0.6, 0.7, dict.fromkeys(CLASSES, 0.5))
    with staged(out, ("states", "report", "report.html", "results.csv", "results.json")) as stage:
        metrics = MetricConfig(
            replicates=20,
            track=TRACKS["anomaly_track"] if components else None,
            states=stage / "states" if save_states else None,
        )
        found = get_scores(scores or (["gmm_nll", "energy"] if generative else ["msp"]))
        record = run(
            Network(seed, generative),
            [split],
            Evaluation(found, metrics=metrics, calibration=calibration, settings=settings or {}),
            record={"name": name},
            provenance={"command": f"anomaly evaluate {HOSTILE}"},
            closed_set=lambda on_frame: closed,
            callbacks=[ViewCallback(stage / "report", frames)] if frames else [],
        )
        write_results(record, stage)
        if frames:
            write_page([stage / "results.json"], stage / "report.html")
    return out / "results.json"


def stored_view(results: Path, index: int) -> dict[str, np.ndarray]:
    """The arrays of a view, read by numpy alone."""
    names = ("image", "label", "predicted", "codes", "points", "classes", "values")
    with np.load(results.parent / "report" / SET / f"{index:04d}.npz") as file:
        return {name: file[f"array_{i:06d}"] for i, name in enumerate(names)}


def stored_curves(results: Path) -> dict[str, dict]:
    """What is kept of each score, read by numpy and json alone."""
    with np.load(results.parent / "report" / SET / "set.npz") as file:
        return dict(json.loads(file["header"].tobytes())["curves"])
