"""Train a segmentation network: ``python tools/train.py CONFIG [--work-dir DIR]``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from _run import read_config, run
from _runner import build_runner
from gmmseg.errors import InputError


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
    config.launcher = args.launcher
    config.work_dir = str(args.work_dir or config.get("work_dir") or Path("work_dirs", args.config.stem))
    config.resume = args.resume or config.get("resume", False)
    if args.amp:
        import torch

        if not torch.cuda.is_available():
            raise InputError("--amp needs a CUDA device, and torch finds none here; leave it out")
        config.optim_wrapper.type = "AmpOptimWrapper"
        config.optim_wrapper.setdefault("loss_scale", "dynamic")
    build_runner(config, "train_dataloader", "val_dataloader").train()


if __name__ == "__main__":
    run(main)
