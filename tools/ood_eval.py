"""Measure a network on anomaly sets: ``python tools/ood_eval.py CONFIG CHECKPOINT --sets NAME...``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

import _environment  # noqa: F401
from _measures import add_measures, read_measures
from _progress import frame_progress
from _run import read_config, run
from _sets import add_sets, data_root, open_sets
from anomaly.scores.table import SCORES, get_scores


def parse_args() -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("config", type=Path, help="a config file, such as those in configs/")
    add("checkpoint", type=Path, help="a checkpoint of that network")
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(SCORES)} (default: all that fit)")
    add("--out", type=Path, metavar="DIR", help="folder of the results (default: work_dirs/CONFIG/ood_eval)")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--heatmaps", choices=("all", "first", "none"), default="all", help="scores to draw (default: all)")
    add("--no-closed-set", action="store_true", help="leave the closed-set mIoU out")
    add("--profile", action="store_true", help="print where the time went")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    add_sets(parser)
    add_measures(parser)
    return parser.parse_args()


def main() -> None:
    """Check names and files, then the network, then measure; results appear when all is done."""
    args = parse_args()
    scores = get_scores(args.scores)
    splits = open_sets(args)
    measured = read_measures(args, data_root(args))
    config = read_config(args.config, args.cfg_options, args.data_root)

    from anomaly.integrations import mmseg_run
    from anomaly.integrations.mmseg_closed_set import open_closed_set
    from anomaly.integrations.mmseg_detector import build_model, pick_device
    from anomaly.profile import Profile
    from anomaly.provenance import provenance
    from anomaly.report.table import results_table
    from gmmseg.checkpoints import check_classes, load_checkpoint_file, load_weights

    device, model = pick_device(args.device), build_model(config)
    checkpoint = load_checkpoint_file(args.checkpoint)
    load_weights(model, checkpoint["state_dict"], args.checkpoint)
    if closed_set := None if args.no_closed_set else open_closed_set(config):
        check_classes(checkpoint, closed_set.metainfo["classes"], args.checkpoint)
    out, profile = args.out or Path("work_dirs", args.config.stem, "ood_eval"), Profile()
    with frame_progress() as progress:
        result = mmseg_run.run(
            *(config, model, device, splits, scores, out),
            **measured,
            closed_set=closed_set,
            heatmaps=args.heatmaps,
            limit=args.limit,
            progress=progress,
            profile=profile,
            provenance=provenance(args.config, config.pretty_text, args.checkpoint),
        )
    profile.stop()
    Console().print(results_table(result), *([str(profile)] if args.profile else []))
    print(f"results and pictures are in {out}")


if __name__ == "__main__":
    run(main)
