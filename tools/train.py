"""Train a segmentation network: ``python tools/train.py CONFIG [--work-dir DIR]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from _run import run
from _runner import add_arguments, build_runner, runner_config
from gmmseg.errors import InputError


def parse_args() -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a config file, such as those in configs/")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the work dir")
    parser.add_argument("--amp", action="store_true", help="mixed precision (densities stay in float32)")
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Build mmengine's runner from the config and train."""
    args = parse_args()
    config = runner_config(args)
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
