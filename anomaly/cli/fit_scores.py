"""Fit scores that learn from training images, such as knn, vim, sml and mahalanobis.

Examples:
    python tools/fit_scores.py CONFIG CHECKPOINT --out scores.npz
    python tools/ood_eval.py CONFIG CHECKPOINT --sets road_anomaly --scores all --statistics scores.npz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, LOOKING, Reads
from anomaly.cli.inference import add_inference, read_inference
from anomaly.cli.mmseg_config import check_data_root
from anomaly.cli.parser import check_seed, command_parser
from anomaly.cli.progress import frame_progress
from anomaly.cli.weights import by_windows, load_network
from anomaly.errors import InputError
from anomaly.scores.registry import get_scores

FITTING = ("train_dataloader.dataset", "val_dataloader.dataset.pipeline")
BY_OTHERS = {r"train_dataloader\.dataset\.(.+\.)?pipeline": "the images are prepared as for testing"}


def main(words: Sequence[str] | None = None) -> None:
    """Show training images to the network once, fit every score, write."""
    parser = command_parser(__doc__, "anomaly fit-scores")
    add = parser.add_argument
    add("config", type=Path, help="a config file with a train_dataloader, such as those in configs/")
    add("checkpoint", type=Path, help="a checkpoint of that network")
    add("--out", type=Path, required=True, metavar="FILE", help="the statistics, a .npz file")
    add("--scores", nargs="+", default=[], metavar="NAME", help="(default: all that fit the network)")
    add("--images", type=int, default=100, metavar="N", help="training images, drawn at random (default: 100)")
    pixels = "most pixels in all, as many of each class of each image; at least one an image (default: 50000)"
    add("--pixels", type=int, default=50_000, metavar="N", help=pixels)
    add("--seed", type=int, default=0, help="draws images and pixels (default: 0)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    add_inference(parser, fitting=True)
    args = parser.parse_args(words)
    if min(args.images, args.pixels) < 1:
        raise InputError(f"expected --images and --pixels of 1 or more, found {args.images} and {args.pixels}")
    check_seed(args.seed)
    if args.out.suffix != ".npz":
        raise InputError(f"--out: expected a file name that ends in .npz, found {args.out}")
    reads = Reads((*LOOKING, *FITTING), {**CHECKPOINT_FOLLOWS, **BY_OTHERS, **by_windows(args)})
    named, network = get_scores(args.scores), load_network(args, reads)
    check_data_root(network.config, args.data_root)

    import torch

    from anomaly.evaluation.score_maps import check_served
    from anomaly.mmengine.closed_set import check_whole
    from anomaly.mmengine.training_pixels import sample_pixels
    from anomaly.models.mmseg import MMSegModel, config_inference
    from anomaly.results.provenance import provenance
    from anomaly.scores.statistics import Statistics, fittable, weights_hash
    from anomaly.models.checkpoints import check_classes
    from gmmseg.posthoc.feature_pass import open_training_set

    detector = MMSegModel(network.config, network.model, network.device)
    inference = read_inference(args, config_inference(network.config))
    scores = named or fittable(detector.gives)
    check_served(scores, detector)
    dataset, draw = open_training_set(network.config), torch.Generator().manual_seed(args.seed)
    check_classes(network.checkpoint, dataset.metainfo["classes"], args.checkpoint)
    check_whole(dataset, "training data")
    with frame_progress() as progress:
        bar = progress.add_task("images", total=min(args.images, len(dataset)))
        sample, seen = sample_pixels(
            *(detector, inference, dataset),
            images=args.images,
            pixels=args.pixels,
            generator=draw,
            on_frame=lambda: progress.advance(bar),
        )
        bar = progress.add_task("fitting", total=None)
        origin = {**provenance(network.inputs), "pixels": len(sample.labels), "inference": inference.record()}
        statistics = Statistics.of(
            *(sample, scores),
            network=weights_hash(network.model.state_dict()),
            classes=detector.classes,
            images=seen,
            origin=origin,
            all_of_them=bool(named),
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(args.out)
    print(f"{args.out} has the statistics of {', '.join(statistics.fitted)}, from {len(seen)} images")
