"""The arguments of tools that say how the network looks at an image, and what is done to its scores."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomaly.errors import InputError
from anomaly.models.tiling import Inference
from anomaly.postprocessing.table import STEPS, Chain, parse_chain
from anomaly.utils.names import check_distinct

THREADS = 1024
"""Most threads: torch ends the process where the system has not enough."""


def add_inference(parser: argparse.ArgumentParser, *, fitting: bool = False) -> None:
    """Add the arguments about looking to a parser; for fitting scores, those that matter there."""
    add = parser.add_argument_group("how the network looks at an image").add_argument
    add("--window", metavar="HxW", help="by sliding windows of that size (default: as the config's test_cfg says)")
    add("--stride", metavar="HxW", help="how far windows are apart (default: two thirds of them)")
    if not fitting:
        add("--flip", action="store_true", help="the mirrored image too; scores are averaged")
        add("--scales", nargs="+", type=float, default=[1.0], metavar="S", help="at these sizes; scores are averaged")
        add("--score-at", choices=("features", "input"), default="features", help="resolution of scores (features)")
    add("--batch", type=int, default=1, metavar="N", help="images and windows at once (1)")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="of the network's arithmetic (float32)")
    add("--threads", type=int, metavar="N", help="CPU threads of the network (default: torch's)")
    if fitting:
        parser.set_defaults(flip=False, scales=[1.0], score_at="features")
    else:
        add("--statistics", type=Path, metavar="FILE", help="what tools/fit_scores.py wrote, for scores that need it")


def add_post(parser: argparse.ArgumentParser) -> None:
    """Add the argument about post-processing to a parser."""
    parser.add_argument_group("what is done to scores").add_argument(
        "--post",
        nargs="+",
        default=["none"],
        metavar="STEP,STEP",
        help=f"chains of {', '.join(STEPS)}, such as boundary,smooth:sigma=2; each is applied to every score, and none "
        "means as they are (docs/postprocessing.md)",
    )


def read_inference(args: argparse.Namespace, configured: Inference) -> Inference:
    """Make settings of parsed arguments.

    Args:
        args: Parsed.
        configured: What the config says about windows.

    Raises:
        InputError: A value is out of range.
    """
    given: dict[str, Any] = {}
    if args.window is not None:
        given = {"window": _size("--window", args.window), "stride": None}
    if args.stride is not None:
        given["stride"] = _size("--stride", args.stride)
    given |= {"flip": args.flip, "scales": tuple(args.scales), "resolution": args.score_at}
    if args.threads is not None:
        if not 1 <= args.threads <= THREADS:
            raise InputError(f"--threads: expected 1 to {THREADS}, found {args.threads}")
        import torch

        torch.set_num_threads(args.threads)
    return replace(configured, **given, batch=args.batch, precision=args.precision)


def read_post(args: argparse.Namespace) -> list[Chain]:
    """Parse the chains. Raises ``InputError`` where one is there twice."""
    check_distinct(args.post, "--post chains", "name each once")
    return [parse_chain(text) for text in args.post]


def _size(option: str, text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"{option}: expected HEIGHTxWIDTH such as 512x1024, found {text!r}")
    return int(height), int(width)
