"""The arguments of ``ood_eval.py`` that say what comes out beside the figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypedDict

from anomaly.errors import InputError

FRAMES = 60


class Outputs(TypedDict):
    """Arguments of :func:`anomaly.evaluation.run.run`."""

    heatmaps: Any
    report: int


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    add = parser.add_argument_group("what comes out").add_argument
    add("--out", type=Path, metavar="DIR", help="folder of the results (default: work_dirs/CONFIG/ood_eval)")
    add("--heatmaps", choices=("all", "first", "none"), default="all", help="scores to draw (default: all)")
    page = "OUT/report.html: figures, curves and frames in one page (docs/report.md)"
    add("--report", action="store_const", const=True, help=page)
    add("--report-frames", type=int, metavar="N", help=f"frames of each set in it at most, taken evenly ({FRAMES})")
    add("--profile", action="store_true", help="print where the time went")


def read_outputs(args: argparse.Namespace) -> Outputs:
    """Make arguments of :func:`anomaly.evaluation.run.run` out of parsed ones.

    Raises:
        InputError: A value is out of range.
    """
    frames = FRAMES if args.report_frames is None else args.report_frames
    if frames < 1:
        raise InputError(f"--report-frames: expected 1 or more, found {frames}")
    return {"heatmaps": args.heatmaps, "report": frames if args.report else 0}
