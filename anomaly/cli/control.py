"""Negative controls: run uninformative scores through the same evaluation, and fail if they look good.

A random score must have an AUROC of 50 % and an AP equal to the share of anomalies, and so must any score if the labels
are shuffled, within bounds that chance exceeds at most once in a million times. A constant score must match exactly.

Example:
    anomaly control --data road_anomaly
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from anomaly.cli.options import add_datasets, read_datasets
from anomaly.cli.parser import command_parser


def main(words: Sequence[str] | None = None) -> None:
    """Run the controls; exit with status 1 if one of them is better or worse than chance allows."""
    parser = command_parser(__doc__, "anomaly control")
    add_datasets(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise and the shuffled labels (default: 0)")
    args = parser.parse_args(words)
    datasets = read_datasets(args)

    from anomaly.cli.progress import frame_progress
    from anomaly.evaluation.negative_controls import negative_controls

    with frame_progress() as progress:
        bar = progress.add_task("controls", total=3 * sum(map(len, datasets)))
        controls = negative_controls(datasets, seed=args.seed, on_frame=lambda: progress.advance(bar))
    print(
        f"{'dataset':<28}{'score':<17}{'AUROC':>9}{'by chance':>20}{'AP':>10}{'by chance':>20}{'share':>9}  (percent)"
    )
    for one in controls:
        auroc = f"{100 * one.auroc:9.3f}{_told(one.auroc_range)}"
        ap = f"{100 * one.ap:10.3f}{_told(one.ap_range)}{100 * one.share:9.3f}"
        print(f"{one.dataset:<28}{one.name:<17}{auroc}{ap}  {'passed' if one.passed else f'FAILED: {one.fault}'}")
    failed = [one for one in controls if not one.passed]
    if failed:
        print(f"{len(failed)} of {len(controls)} controls failed: do not trust any metric of these datasets")
        sys.exit(1)


def _told(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:9.3f} to{100 * bounds[1]:8.3f}"
