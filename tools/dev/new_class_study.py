"""Measure new classes without training: the animals of CamVid-OOD, added to a network that was trained on CamVid.

``measure`` adds the class from 1, 5 and 20 marked images, and measures it on the other images, beside two other ways to
add a class to the same frozen embedding. It writes ``results/new_class_split.json`` and ``results/new_class.json``.
``write`` inserts the table into ``docs/new_classes.md``, which describes the experiment.

Examples:
    python tools/dev/new_class_study.py measure CONFIG CHECKPOINT --data-root data
    python tools/dev/new_class_study.py write
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.utils.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECORD, SPLIT = (
    ROOT / "docs/new_classes.md",
    ROOT / "results/new_class.json",
    ROOT / "results/new_class_split.json",
)
MARK = re.compile(r"(<!-- written by tools/dev/new_class_study\.py -->\n).*?(<!-- end -->)", re.S)
SEEDS = (0, 1, 2)
SIZES = (1, 5, 20)
IGNORED, ANIMAL, NEW = 11, 12, 11  # label values of CamVid-OOD, and the index of the new class
TRAINING_IMAGES = 100
PIXELS_PER_IMAGE = 300
METHODS = {
    "mixture": "`gmmseg add-class`",
    "mean": "nearest class mean",
    "last layer": "fine-tuned last layer",
}
Maps = Callable[["Shown"], Any]
"""Gives the values of the classes at each cell of an image, ``(C, h, w)``; the largest one is predicted."""


@dataclass(frozen=True)
class Shown:
    """What the network says of an image, and its label at full size and at the resolution of the features."""

    features: Any
    logits: Any
    likelihood: Any
    label: npt.NDArray[np.uint8]
    cells: Any

    def rows(self, chosen: Any) -> Any:
        """Features of some cells. Shape ``(n, D)``."""
        return self.features.flatten(1).T[chosen.flatten()]


def split(names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Draw the marked images of each seed, in order: the first 1 and 5 are the smaller draws; the others measure."""
    drawn = {}
    for seed in SEEDS:
        order = [sorted(names)[i] for i in np.random.default_rng(seed).permutation(len(names))]
        drawn[f"seed {seed}"] = {"marked": order[: max(SIZES)], "measured": sorted(order[max(SIZES) :])}
    return drawn


def with_new_class(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Class indices, with the new class, of a label map of CamVid-OOD; 255 is ignored."""
    return np.where(label == IGNORED, np.uint8(255), np.where(label == ANIMAL, np.uint8(NEW), label))


def show(model: Any, image: Path, label: Path) -> Shown:
    """Run the network on an image."""
    import torch

    from anomaly.datasets.images import read_image, read_label
    from anomaly.models.views import predict_image, resize_labels

    prediction = predict_image(model, read_image(image), model.inference)
    (one,) = prediction.views
    values = with_new_class(read_label(label))
    found = torch.from_numpy(values.astype(np.int64))
    cells = one.labels(resize_labels(torch.where(found == 255, -1, found), prediction.size), "features")
    features, logits, likelihood = (
        one.prediction.field(name)[0] for name in ("features", "logits", "class_log_likelihood")
    )
    return Shown(features, logits, likelihood, values, cells)


def measure(images: Sequence[Shown], maps: Maps) -> dict[str, float]:
    """IoU, recall and precision of the new class, and mIoU of the known ones, pooled over images, in percent."""
    import torch
    import torch.nn.functional as F

    from anomaly.metrics.functional.open_iou import iou as iou_of

    counts = np.zeros((NEW + 1, NEW + 1), np.int64)
    with torch.no_grad():
        for shown in images:
            values = F.interpolate(maps(shown)[None].contiguous(), shown.label.shape, mode="bilinear")
            predicted = values[0].argmax(0).numpy()
            counted = shown.label != 255
            pairs = shown.label[counted].astype(np.int64) * (NEW + 1) + predicted[counted]
            counts += np.bincount(pairs, minlength=(NEW + 1) ** 2).reshape(counts.shape)
    iou = 100 * iou_of(counts)
    with np.errstate(invalid="ignore"):
        recall, precision = (100 * counts[NEW, NEW] / counts.sum(axis)[NEW] for axis in (1, 0))
    found = {"new_iou": iou[NEW], "new_recall": recall, "new_precision": precision, "known": np.nanmean(iou[:NEW])}
    return {name: float(value) for name, value in found.items()}


def by_mixture(classifier: Any, features: Any) -> Maps:
    """GMMSeg's logits with a class that :mod:`gmmseg.new_classes` fitted; without features, those of the network."""
    import torch

    from gmmseg.new_classes import fit_added_mixture

    if features is None:
        return lambda shown: shown.logits
    settings = classifier.settings
    mixture = fit_added_mixture(features, settings, settings.num_components, torch.Generator().manual_seed(0))

    def maps(shown: Shown) -> Any:
        rows, trained = shown.features.flatten(1).T, shown.likelihood.flatten(1).T
        added = classifier.logits_of_added(mixture.log_prob(rows).amax(1, keepdim=True), trained)
        return torch.cat([shown.logits, added.T.view(1, *shown.logits.shape[1:])])

    return maps


def by_mean(means: Any, features: Any) -> Maps:
    """Cosine of the angle to the mean of each class."""
    import torch
    import torch.nn.functional as F

    if features is not None:
        means = torch.cat([means, features.mean(0, keepdim=True)])
    directions = F.normalize(means, dim=1)
    return lambda shown: torch.einsum("cd,dhw->chw", directions, shown.features)


def by_last_layer(rows: Any, labels: Any, features: Any, most: int) -> Maps:
    """Logits of a new last layer: a logistic regression on old pixels and at most ``most`` of the new class."""
    import torch
    from sklearn.linear_model import LogisticRegression

    if features is not None:
        drawn = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:most]
        rows = torch.cat([rows, features[drawn]])
        labels = torch.cat([labels, torch.full((len(drawn),), NEW)])
    scale = rows.shape[1] ** 0.5  # unit features have small values, which would strengthen the penalty of the weights
    fitted = LogisticRegression(max_iter=500).fit(scale * rows.numpy(), labels.numpy())
    weight, bias = torch.from_numpy(fitted.coef_).float() * scale, torch.from_numpy(fitted.intercept_).float()
    return lambda shown: torch.einsum("cd,dhw->chw", weight, shown.features) + bias[:, None, None]


def experiment(config: Path, checkpoint: Path, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split and record of the experiment."""
    import torch

    from anomaly.cli.mmseg_config import read_config
    from anomaly.datasets.folder import pair_folders
    from anomaly.models.mmseg import load_mmseg
    from gmmseg.new_classes import classifier_of

    model = load_mmseg(read_config(config, (), root), checkpoint, device="cpu")
    classifier = classifier_of(model.network)
    pairs = pair_folders(root / "camvid_ood/images", root / "camvid_ood/labels")
    drawn = split([name for name, _, _ in pairs])
    draw = torch.Generator().manual_seed(0)
    training = pair_folders(root / "camvid/images/train", root / "camvid/annotations/train")
    rows, labels = [], []
    for i in torch.randperm(len(training), generator=draw)[:TRAINING_IMAGES].tolist():
        shown = show(model, *training[i][1:])
        cells = (shown.cells.flatten() >= 0).nonzero().squeeze(1)
        chosen = cells[torch.randperm(len(cells), generator=draw)[:PIXELS_PER_IMAGE]]
        rows.append(shown.rows(chosen))
        labels.append(shown.cells.flatten()[chosen])
    old_rows, old_labels = torch.cat(rows), torch.cat(labels)
    means = torch.stack([old_rows[old_labels == k].mean(0) for k in range(NEW)])
    most = len(old_rows) // NEW  # as many as a known class has on average
    ood = {name: show(model, image, label) for name, image, label in pairs}
    val = [show(model, *pair[1:]) for pair in pair_folders(root / "camvid/images/val", root / "camvid/annotations/val")]
    fits: dict[str, Callable[[Any], Maps]] = {
        "mixture": lambda features: by_mixture(classifier, features),
        "mean": lambda features: by_mean(means, features),
        "last layer": lambda features: by_last_layer(old_rows, old_labels, features, most),
    }
    runs: list[dict[str, Any]] = []
    for method, fit in fits.items():
        before = fit(None)
        val_before = measure(val, before)["known"]
        for seed, names in drawn.items():
            measured = [ood[name] for name in names["measured"]]
            known_before = measure(measured, before)["known"]
            for size in SIZES:
                marked = [ood[name] for name in names["marked"][:size]]
                features = torch.cat([shown.rows(shown.cells == NEW) for shown in marked])
                after = fit(features)
                found, val_after = measure(measured, after), measure(val, after)["known"]
                runs.append({"method": method, "draw": seed, "images": size, "cells": len(features)})
                known_after = found.pop("known")
                runs[-1] |= {**found, "known_before": known_before, "known_after": known_after}
                runs[-1] |= {"val_before": val_before, "val_after": val_after}
                print(json.dumps(runs[-1]), flush=True)
    network = {"config": model.inputs["config"]["sha256"], "checkpoint": model.inputs["checkpoint"]["sha256"]}
    return drawn, {"network": network, "runs": runs}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """The table of the page: means over the draws, with the range in brackets."""
    head = (
        "| class added by | marked images | IoU of animals | recall | precision | known mIoU, measured images | val |"
    )
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for method, name in METHODS.items():
        of_method = [each for each in runs if each["method"] == method]
        known, val = (np.mean([each[key] for each in of_method]) for key in ("known_before", "val_before"))
        lines.append(f"| {name} | 0 |  |  |  | {known:.1f} | {val:.1f} |")
        for size in SIZES:
            of_size = [each for each in of_method if each["images"] == size]
            changes = (
                [each["known_after"] - each["known_before"] for each in of_size],
                [each["val_after"] - each["val_before"] for each in of_size],
            )
            of_new = ([each[f"new_{key}"] for each in of_size] for key in ("iou", "recall", "precision"))
            cells = [_mean_and_range(values, "") for values in of_new] + [_mean_and_range(c, "+") for c in changes]
            lines.append(f"| {name} | {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_and_range(values: Sequence[float], sign: str) -> str:
    return f"{np.mean(values):{sign}.1f} [{min(values):{sign}.1f}, {max(values):{sign}.1f}]"


def main() -> None:
    """Measure, or write the page."""
    parser = command_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", formatter_class=argparse.HelpFormatter)
    measuring.add_argument("config", type=Path, help="config of a GMMSeg network with the classes of CamVid")
    measuring.add_argument("checkpoint", type=Path, help="checkpoint of that network")
    measuring.add_argument("--data-root", type=Path, default=Path("data"), help="folder of camvid and camvid_ood")
    commands.add_parser("write")
    args = parser.parse_args()
    if args.command == "measure":
        drawn, record = experiment(args.config, args.checkpoint, args.data_root)
        write_whole(SPLIT, json.dumps(drawn, indent=1) + "\n")
        write_whole(RECORD, json.dumps(record, indent=1) + "\n")
        return
    made = table(json.loads(RECORD.read_text())["runs"])
    PAGE.write_text(MARK.sub(lambda found: f"{found[1]}\n{made}\n\n{found[2]}", PAGE.read_text()))


if __name__ == "__main__":
    run(main)
