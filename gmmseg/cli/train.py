"""Train a segmentation network, generative or not; resumes exactly.

Examples:
    gmmseg train CONFIG --work-dir work_dirs/first
    gmmseg train CONFIG --work-dir work_dirs/first --resume
    gmmseg train CONFIG --cfg-options model.decode_head.mixture.num_components=3
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.config_options import ALL
from anomaly.cli.parser import command_parser
from gmmseg.cli.runner import add_arguments, build_runner, runner_config


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = command_parser(__doc__, "gmmseg train")
    parser.add_argument("config", type=Path, help="a config file, such as those in configs/")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="CHECKPOINT",
        help="go on from CHECKPOINT, or from the newest one in the work dir that can be read",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (densities stay in float32)")
    add_arguments(parser)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Build mmengine's runner from the config and train."""
    args = parse_args(words)
    said = {} if args.resume is None else {"resume": "--resume says so"}
    said |= {} if args.resume in (None, "newest") else {"load_from": "training goes on from what --resume names"}
    said |= {"optim_wrapper.type": "--amp says so"} if args.amp else {}
    config = runner_config(args, ALL, said)
    if args.resume == "newest":
        config.resume = args.resume
    elif args.resume is not None:
        config.load_from, config.resume = args.resume, True
    if args.amp:
        import torch

        if torch.cuda.is_available():
            config.optim_wrapper.type = "AmpOptimWrapper"
            config.optim_wrapper.setdefault("loss_scale", "dynamic")
        else:
            config.optim_wrapper.type = "gmmseg.CPUAmpOptimWrapper"
    build_runner(config, "train_dataloader", "val_dataloader").train()
