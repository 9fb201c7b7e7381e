"""Compute closed-set metrics of a network with mmsegmentation's test loop.

Example:
    gmmseg test CONFIG CHECKPOINT --out metrics.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.config_options import TESTING
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError
from gmmseg.cli.runner import add_arguments, build_runner, runner_config


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``gmmseg test``."""
    parser = command_parser(__doc__, "gmmseg test")
    parser.add_argument("config", type=Path, help="config file, such as one of those in configs/")
    parser.add_argument("checkpoint", type=Path, help="checkpoint of that network")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write mmseg's metrics (in percent) to a JSON file")
    add_arguments(parser)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Load a checkpoint safely and run mmengine's test loop."""
    args = parse_args(words)
    config = runner_config(args, TESTING, dict.fromkeys(("load_from", "resume"), "the weights come from CHECKPOINT"))
    config.load_from, config.resume = None, False
    if args.out is not None and args.out.is_dir():
        raise InputError(f"--out {args.out} is a folder; give the name of a file")

    from mmengine.dist import is_main_process

    from anomaly.models.checkpoints import check_classes, load_checkpoint_file, load_weights
    from anomaly.models.mmseg import build_model
    from anomaly.utils.files import write_whole

    checkpoint = load_checkpoint_file(args.checkpoint)
    weights = checkpoint["state_dict"]
    load_weights(build_model(config), weights, args.checkpoint)  # fails before anything is written
    runner = build_runner(config, "test_dataloader")
    check_classes(checkpoint, runner.test_dataloader.dataset.metainfo["classes"], args.checkpoint)
    load_weights(runner.model, weights, args.checkpoint)
    _report_unlabelled_classes(runner)
    metrics = runner.test()
    if args.out is not None and is_main_process():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"model": args.config.stem, "frames": len(runner.test_dataloader.dataset), **metrics}
        write_whole(args.out, json.dumps(record, indent=2, default=float) + "\n")


def _report_unlabelled_classes(runner: Any) -> None:
    """Let mmseg's mIoU print the classes without a labelled pixel, at the end of the test."""
    from mmseg.evaluation import IoUMetric

    from anomaly.results.remarks import unlabelled_classes

    def reporting(metric: Any, compute: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
        def report_and_compute(results: list[Any]) -> Any:
            labelled = sum(areas[3] for areas in results).tolist()
            names = [name for name, area in zip(metric.dataset_meta["classes"], labelled, strict=True) if not area]
            for remark in unlabelled_classes("mIoU", names):
                print(f"note: {remark}", file=sys.stderr)
            return compute(results)

        return report_and_compute

    for metric in runner.test_evaluator.metrics:
        if isinstance(metric, IoUMetric) and not metric.format_only:
            metric.compute_metrics = reporting(metric, metric.compute_metrics)
