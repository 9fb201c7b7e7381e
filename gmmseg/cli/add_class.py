"""Add a class to a trained GMMSeg network without training: fit its mixture to marked regions of a few images.

The command writes a config and a checkpoint that every other command takes. The log-likelihoods and logits of the other
classes stay what they are. ``gmmseg remove-class`` undoes it.

Example:
    gmmseg add-class CONFIG CHECKPOINT --name animal --images IMAGES --masks MASKS --out DIR
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from anomaly.cli.mmseg_config import check_data_root, read_config
from anomaly.cli.parser import check_seed, command_parser
from anomaly.errors import InputError

PIXELS = 20_000
"""Largest number of marked cells that a mixture is fitted to."""


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``gmmseg add-class``."""
    parser = command_parser(__doc__, "gmmseg add-class")
    add = parser.add_argument
    add("config", type=Path, help="config of a GMMSeg network")
    add("checkpoint", type=Path, help="checkpoint of that network")
    add("--name", required=True, help="name of the new class")
    add("--images", type=Path, required=True, metavar="DIR", help="images that show the object")
    masks = "PNG masks of the same names and sizes: 0, and one other value where the object is"
    add("--masks", type=Path, required=True, metavar="DIR", help=masks)
    add("--out", type=Path, required=True, metavar="DIR", help="folder for CONFIG_NAME.py and .pth")
    color = "colour of the class (default: one that differs from the others)"
    add("--color", type=int, nargs=3, metavar=("R", "G", "B"), help=color)
    parts = "largest number of Gaussians, at most the network's own (default: as many)"
    add("--components", type=int, metavar="P", help=parts)
    add("--seed", type=int, default=0, help="seed for drawing pixels and starting points (default: 0)")
    add("--no-closed-set", action="store_true", help="do not measure the mIoU of the other classes, before and after")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add("--device", help="device such as cpu or cuda:0 (default: cuda if available)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Fit the mixture, measure the other classes before and after, and write config and checkpoint, both or none."""
    args = parse_args(words)
    check_seed(args.seed)
    if args.color is not None and not all(0 <= value <= 255 for value in args.color):
        raise InputError(f"--color: expected three values from 0 to 255, found {args.color}; correct them")
    name = args.name.strip()
    if not re.search(r"\w", name):
        raise InputError(f"--name: expected the name of a class, found {args.name!r}; give a name with letters")
    config = read_config(args.config, (), args.data_root)
    check_data_root(config, args.data_root)

    import torch

    from anomaly.datasets.folder import pair_folders
    from anomaly.models.checkpoints import load_weights
    from anomaly.models.mmseg import build_model, load_mmseg
    from anomaly.results.provenance import provenance
    from anomaly.utils.files import staged
    from gmmseg.datasets.added_classes import palette_of
    from gmmseg.new_classes import add_class, classifier_of, fit_added_mixture

    model = load_mmseg(config, args.checkpoint, device=args.device)
    settings = classifier_of(model.network).settings
    _check_name(name, model.classes, args.config)
    most = settings.num_components if args.components is None else args.components
    if not 1 <= most <= settings.num_components:
        raise InputError(
            f"--components: expected 1 to {settings.num_components}, the network's own number, found {most}; give such "
            "a number"
        )
    draw = torch.Generator().manual_seed(args.seed)
    sample, images = _marked_features(model, pair_folders(args.images, args.masks), draw)
    mixture = fit_added_mixture(sample.of_class(0), settings, most, draw)
    cells, used = int(sample.seen), int(mixture.log_weights.isfinite().sum())
    fit = {"images": len(images), "cells": cells, "components": used, "seed": args.seed}
    record = {**provenance(model.inputs), **fit, "fitted_images": sorted(images)}
    color = args.color or _distinct_color(palette_of(config))
    new_config, checkpoint = add_class(config, model.checkpoint, name, mixture, color=color, record=record)
    network = build_model(new_config)
    load_weights(network, checkpoint["state_dict"], args.checkpoint)
    if not args.no_closed_set:
        _compare(config, model.network, new_config, network.to(model.device))
    file = file_name(args.config, name)
    with staged(args.out, (f"{file}.pth", f"{file}.py")) as stage:
        write(new_config, checkpoint, stage / file)
    print(
        f"wrote {args.out / file}.py and {file}.pth: {name} is class {len(model.classes)}, with {used} "
        f"of at most {most} components, fitted to {cells} marked cells of {len(images)} images"
    )


def file_name(config: Path, name: str) -> str:
    """Name of the written files, without suffix."""
    return f"{config.stem}_{re.sub(r'[^0-9A-Za-z-]+', '-', name).strip('-') or 'class'}"


def write(config: Any, checkpoint: dict[str, Any], path: Path) -> None:
    """Write a config and a checkpoint, which differ in their suffix."""
    import torch

    from anomaly.utils.file_records import portable

    torch.save(checkpoint, path.with_name(f"{path.name}.pth"))
    path.with_name(f"{path.name}.py").write_text(portable(config.pretty_text))


def _check_name(name: str, classes: Sequence[str], config: Path) -> None:
    if not classes:
        raise InputError(
            f"config {config}: expected the names of its classes in val_dataloader.dataset, found none; add "
            "metainfo=dict(classes=...)"
        )
    if name.casefold() in (folded := [each.casefold() for each in classes]):
        raise InputError(
            f"--name: expected a new class, found {name!r}, class {folded.index(name.casefold())} of the network; give "
            "another name"
        )


def _marked_features(model: Any, pairs: Sequence[tuple[str, Path, Path]], draw: Any) -> tuple[Any, set[str]]:
    """Sample of the embeddings of marked cells, and the hashes of the images."""
    import torch

    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.images import read_image
    from anomaly.density.sample import StratifiedSample
    from anomaly.frames import image_hash
    from anomaly.models.loop import show
    from anomaly.models.views import predict_image, resize_labels
    from gmmseg.new_classes import classifier_of

    def read(pair: tuple[str, Path, Path]) -> tuple[Any, Any]:
        _, path, mask = pair
        image = read_image(path)
        return image, torch.from_numpy(_read_mask(mask, path, image.shape[:2])).long() - 1  # -1: not the object

    def ask(items: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
        return [predict_image(model, image, model.inference) for image, _ in items]

    hashes: set[str] = set()
    sample = StratifiedSample(1, PIXELS, classifier_of(model.network).settings.embed_dim, draw)
    with frame_progress() as progress, closing(show(pairs, read, ask)) as shown:
        bar = progress.add_task("features", total=len(pairs))
        for (image, mask), prediction in shown:
            hashes.add(image_hash(image))
            at_input = resize_labels(mask, prediction.size)
            for one in prediction.views:
                marked = one.labels(at_input, "features").flatten() == 0
                rows = one.prediction.field("features").permute(0, 2, 3, 1).flatten(0, 2).cpu()[marked]
                if not rows.isfinite().all():
                    raise InputError(
                        "expected finite features, found NaN or infinity; the weights are damaged, use others"
                    )
                sample.add(rows, torch.zeros(len(rows), dtype=torch.long))
            progress.advance(bar)
    return sample, hashes


def _read_mask(path: Path, image: Path, size: tuple[int, int]) -> Any:
    """Where the object is: a boolean map of an image's size ``(H, W)``.

    Raises:
        InputError: The mask has another size, marks nothing, or has more than one value besides 0.
    """
    import numpy as np

    from anomaly.datasets.images import read_label

    mask = read_label(path)
    if mask.shape != size:
        raise InputError(
            f"{path}: expected the size of {image}, {size[1]}x{size[0]}, found {mask.shape[1]}x{mask.shape[0]}; use "
            "files that belong together"
        )
    values = [value for value in np.unique(mask).tolist() if value]
    if not values:
        raise InputError(f"{path}: expected marked pixels, found only 0; mark the object, or remove image and mask")
    if len(values) > 1:
        raise InputError(
            f"{path}: expected 0 and one other value, that of the object, found {', '.join(map(str, values[:5]))}; a "
            "label map of classes is not a mask"
        )
    return mask > 0


def _distinct_color(palette: Sequence[Sequence[int]]) -> list[int]:
    """The colour of a coarse grid that is farthest from those of the other classes."""
    grid = [list(color) for color in itertools.product(range(0, 256, 51), repeat=3)]
    others = [*palette, (0, 0, 0)]
    return max(grid, key=lambda color: min(math.dist(color, other) for other in others))


def _compare(before: Any, network: Any, after: Any, new_network: Any) -> None:
    """Print the mIoU of the classes of a network, without and with a new class."""
    import numpy as np

    from anomaly.cli.progress import frame_progress
    from anomaly.mmengine.closed_set import evaluate_closed_set, open_closed_set

    known, values, frames = (), [], 0
    for config, each in ((before, network), (after, new_network)):
        try:
            dataset = open_closed_set(config)
        except InputError as error:
            print(f"note: the mIoU of the known classes was not measured: {error}", file=sys.stderr)
            return
        known = known or dataset.metainfo["classes"]
        with frame_progress() as progress:
            bar = progress.add_task("closed set", total=len(dataset))
            found = evaluate_closed_set(config, each, dataset, on_frame=partial(progress.advance, bar))
        values.append(100 * np.nanmean([found.class_iou[name] for name in known]))
        frames = found.frames
    print(
        f"mIoU of the {len(known)} known classes: {values[0]:.2f} before, {values[1]:.2f} after ({frames} validation "
        "images); pixels predicted as the new class count as errors"
    )
