"""Train a segmentation network, generative or not; a resumed training continues exactly.

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
    """Parse the arguments of ``gmmseg train``."""
    parser = command_parser(__doc__, "gmmseg train")
    parser.add_argument("config", type=Path, help="config file, such as one of those in configs/")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="CHECKPOINT",
        help="continue from CHECKPOINT, or from the newest readable one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (densities stay in float32)")
    add_arguments(parser)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Build the runner of a config and train."""
    args = parse_args(words)
    unread = {} if args.resume is None else {"resume": "--resume sets it"}
    unread |= {} if args.resume in (None, "newest") else {"load_from": "--resume sets it"}
    unread |= {"optim_wrapper.type": "--amp sets it"} if args.amp else {}
    config = runner_config(args, ALL, unread)
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
