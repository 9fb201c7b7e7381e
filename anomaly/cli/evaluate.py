"""Measure anomaly scores on labelled sets: AUROC, AP and FPR95 beside the closed-set mIoU, with pictures.

Of a network, or of score maps on disk (--predictions).

Examples:
    python tools/ood_eval.py CONFIG CHECKPOINT --sets road_anomaly
    python tools/ood_eval.py CONFIG CHECKPOINT --sets fishyscapes_lost_and_found --scores gmm_nll energy --bootstrap
    python tools/ood_eval.py CONFIG CHECKPOINT --folder photos labels --label-values 0=known 1=anomaly 255=ignore
    python tools/ood_eval.py CONFIG CHECKPOINT --sets road_anomaly --post none boundary,smooth:sigma=2
    python tools/ood_eval.py --predictions maps --sets road_anomaly
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from anomaly.cli.inference import add_inference, add_post, read_post
from anomaly.cli.measures import add_measures, read_measures
from anomaly.cli.outputs import add_outputs, read_outputs
from anomaly.cli.parser import command_parser
from anomaly.cli.progress import frame_progress
from anomaly.cli.datasets import add_sets, data_root, open_sets
from anomaly.cli.subjects import add_subject, choose_subject
from anomaly.cli.together import check_together


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = command_parser(__doc__, "anomaly evaluate")
    add_subject(parser)
    add_sets(parser)
    add_inference(parser)
    add_post(parser)
    add_measures(parser)
    add_outputs(parser)
    return parser.parse_args(words)


def measure(args: argparse.Namespace) -> tuple[Any, Any, Path]:
    """Check names and files, then the network, then measure: the result, where the time went, and its folder."""
    check_together(args)
    post, splits = read_post(args), open_sets(args)
    measured = read_measures(args, data_root(args))
    outputs = read_outputs(args)
    calibration = measured["calibration"]
    chosen = choose_subject(args, [*splits, *([calibration.split] if calibration else [])])

    from anomaly.evaluation import run as runs
    from anomaly.utils.profile import Profile
    from anomaly.results.provenance import provenance

    out, profile = args.out or chosen.out, Profile()
    with frame_progress() as progress:
        result = runs.run(
            *(chosen.subject, splits, chosen.scores, out),
            **measured,
            post=post,
            **outputs,
            settings=chosen.settings,
            progress=progress,
            profile=profile,
            provenance=provenance(chosen.inputs),
            on_labels=lambda split, counts: print(f"{split.name}: {counts}", file=sys.stderr),
        )
    profile.stop()
    return result, profile, out


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and print what came out."""
    args = parse_args(words)
    result, profile, out = measure(args)

    from anomaly.report.table import results_table
    from anomaly.results.comparison import measured_remarks

    Console().print(results_table(result), *([str(profile)] if args.profile else []))
    for remark in measured_remarks(result):
        print(f"note: {remark}")
    print(f"results and pictures are in {out}" + (f"; open {out / 'report.html'} in a browser" if args.report else ""))
