"""Test a network on its closed set: ``python tools/test.py CONFIG CHECKPOINT``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from _run import read_config, run
from _runner import build_runner
from gmmseg.checkpoints import check_classes, load_checkpoint_file, load_weights
from gmmseg.errors import InputError


def parse_args() -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a config file, such as those in configs/")
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of that network")
    parser.add_argument("--work-dir", type=Path, help="where logs go (default: work_dirs/CONFIG)")
    parser.add_argument("--data-root", type=Path, help="folder that holds the data sets (default: data)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write mmseg's figures (percent) there as JSON")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Load the checkpoint safely and run mmengine's test loop."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    config = read_config(args.config, args.cfg_options, args.data_root)
    config.launcher = args.launcher
    config.work_dir = str(args.work_dir or config.get("work_dir") or Path("work_dirs", args.config.stem))
    config.load_from, config.resume = None, False
    if args.out is not None and args.out.is_dir():
        raise InputError(f"--out {args.out} is a folder; name a file")

    from mmengine.dist import is_main_process

    from anomaly.integrations.mmseg_detector import build_model

    checkpoint = load_checkpoint_file(args.checkpoint)
    weights = checkpoint["state_dict"]
    load_weights(build_model(config), weights, args.checkpoint)  # before anything is written
    runner = build_runner(config, "test_dataloader")
    check_classes(checkpoint, runner.test_dataloader.dataset.metainfo["classes"], args.checkpoint)
    load_weights(runner.model, weights, args.checkpoint)
    figures = runner.test()
    if args.out is not None and is_main_process():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.out.with_name(args.out.name + ".part")
        record = {"model": args.config.stem, "frames": len(runner.test_dataloader.dataset), **figures}
        temporary.write_text(json.dumps(record, indent=2, default=float) + "\n")
        os.replace(temporary, args.out)


if __name__ == "__main__":
    run(main)
