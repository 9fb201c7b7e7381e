"""Train a segmentation network: ``python tools/train.py CONFIG [--work-dir DIR]``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from _run import check_data_folders, read_config, run


def parse_args() -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a config file, such as those in configs/")
    parser.add_argument("--work-dir", type=Path, help="logs and checkpoints (default: work_dirs/CONFIG)")
    parser.add_argument("--data-root", type=Path, help="folder that holds the data sets (default: data)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the work dir")
    parser.add_argument("--amp", action="store_true", help="mixed precision (densities stay in float32)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Build mmengine's runner from the config and train."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    config = read_config(args.config, args.cfg_options, args.data_root)
    check_data_folders(config, "train_dataloader", "val_dataloader")
    config.launcher = args.launcher
    config.work_dir = str(args.work_dir or config.get("work_dir") or Path("work_dirs", args.config.stem))
    config.resume = args.resume or config.resume
    if args.amp:
        config.optim_wrapper.type = "AmpOptimWrapper"
        config.optim_wrapper.setdefault("loss_scale", "dynamic")

    from mmengine.runner import Runner, find_latest_checkpoint

    from gmmseg.checkpoints import load_checkpoint_file

    start = find_latest_checkpoint(config.work_dir) if config.resume else None
    for path in filter(None, (start, config.load_from)):
        if Path(path).exists():
            load_checkpoint_file(path)  # mmengine reads it again, unsafely: refuse here what could run code
    Runner.from_cfg(config).train()


if __name__ == "__main__":
    run(main)
