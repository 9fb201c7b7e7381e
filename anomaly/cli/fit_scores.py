"""Fit scores to training images, such as knn, vim, sml and mahalanobis.

Examples:
    anomaly fit-scores CONFIG CHECKPOINT --out scores.npz
    anomaly evaluate CONFIG CHECKPOINT --data road_anomaly --scores all --statistics scores.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.launch import add_launcher, launched
from anomaly.cli.options import add_inference, add_model, by_windows, model_words, read_inference, read_model
from anomaly.cli.parser import check_seed, command_parser
from anomaly.errors import InputError
from anomaly.scores.registry import get_scores
from anomaly.utils.processes import Processes

FITTING = ("train_dataloader.dataset", "val_dataloader.dataset.pipeline")
BY_OTHERS = {r"train_dataloader\.dataset\.(.+\.)?pipeline": "the images are preprocessed as for testing"}


def main(words: Sequence[str] | None = None) -> None:
    """Run the network on training images once, fit every score, and write the statistics."""
    parser = command_parser(__doc__, "anomaly fit-scores")
    add_model(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="file of the statistics; ends in .npz")
    add(
        "--scores", nargs="+", default=[], metavar="NAME", help="scores to fit (default: all that the network supports)"
    )
    add(
        "--images",
        type=int,
        default=100,
        metavar="N",
        help="number of training images, sampled at random (default: 100)",
    )
    pixels = "largest number of pixels, balanced over images and their classes; at least one per image (default: 50000)"
    add("--pixels", type=int, default=50_000, metavar="N", help=pixels)
    add("--seed", type=int, default=0, help="seed of the sampling (default: 0)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add_inference(parser, fitting=True)
    add_launcher(parser)
    args = parser.parse_args(words)
    with launched(args) as processes:
        _fit(args, processes)


def _fit(args: argparse.Namespace, processes: Processes) -> None:
    if min(args.images, args.pixels) < 1:
        raise InputError(
            f"expected --images and --pixels of 1 or more, found {args.images} and {args.pixels}; correct them"
        )
    check_seed(args.seed)
    if args.out.suffix != ".npz":
        raise InputError(f"--out: expected a file name that ends in .npz, found {args.out}; choose such a name")
    if len(model_words(args)) != 2:
        raise InputError(
            "expected CONFIG and CHECKPOINT of mmsegmentation, because its training images are read; name both"
        )
    named = get_scores(args.scores)

    from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, LOOKING, Reads
    from anomaly.cli.mmseg_config import check_data_root

    model = read_model(args, Reads((*LOOKING, *FITTING), {**CHECKPOINT_FOLLOWS, **BY_OTHERS, **by_windows(args)}))

    import torch

    from anomaly.cli.progress import frame_progress
    from anomaly.evaluation.score_maps import check_served
    from anomaly.mmengine.closed_set import check_whole
    from anomaly.mmengine.training_pixels import open_training_set, sample_pixels
    from anomaly.models.checkpoints import check_classes
    from anomaly.models.mmseg import MMSegModel
    from anomaly.results.provenance import provenance
    from anomaly.scores.statistics import Statistics, fittable, weights_hash

    if not isinstance(model, MMSegModel):
        raise InputError("expected a network of mmsegmentation, found another model; name CONFIG and CHECKPOINT")
    check_data_root(model.config, args.data_root)
    inference = read_inference(args, model.inference)
    scores = named or fittable(model.gives)
    check_served(scores, model)
    dataset, draw = open_training_set(model.config), torch.Generator().manual_seed(args.seed)
    check_classes(model.checkpoint, dataset.metainfo["classes"], model_words(args)[1])
    check_whole(dataset, "training data")
    with frame_progress() as progress:
        images = processes.in_turn(range(min(args.images, len(dataset))))
        bar = progress.add_task("images", total=len(images))
        sample, seen = sample_pixels(
            model,
            inference,
            dataset,
            images=args.images,
            pixels=args.pixels,
            generator=draw,
            on_frame=lambda: progress.advance(bar),
            processes=processes,
        )
        if processes.rank:
            return
        bar = progress.add_task("fitting", total=None)
        origin = {**provenance(model.inputs), "pixels": len(sample.labels), "inference": inference.record()}
        statistics = Statistics.of(
            sample,
            scores,
            network=weights_hash(model.network.state_dict()),
            classes=model.classes,
            images=seen,
            origin=origin,
            all_of_them=bool(named),
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(args.out)
    print(f"{args.out} has the statistics of {', '.join(statistics.fitted)}, from {len(seen)} images")
