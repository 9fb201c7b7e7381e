"""Scores that know nothing, through the same evaluation; fails if they look good.

A random score must have the share of anomalies as AP, a constant one too, and labels dealt out anew likewise.

Example:
    python tools/negative_control.py --sets road_anomaly
"""

from __future__ import annotations

import sys

from _parser import tool_parser
from _progress import frame_progress
from _run import run
from _sets import add_sets, open_sets
from anomaly.controls import negative_controls


def main() -> None:
    """Run the controls; status 1 if one of them looks better, or worse, than nothing."""
    parser = tool_parser(__doc__)
    add_sets(parser)
    args = parser.parse_args()
    splits = open_sets(args)
    with frame_progress() as progress:
        bar = progress.add_task("controls", total=3 * sum(map(len, splits)))
        controls = negative_controls(splits, on_frame=lambda: progress.advance(bar))
    print(f"{'set':<28}{'score':<17}{'AUROC':>9}{'AP':>9}{'share':>9}  (percent; AUROC 50 and AP = share are nothing)")
    for one in controls:
        figures = f"{100 * one.auroc:9.3f}{100 * one.ap:9.3f}{100 * one.share:9.3f}"
        print(f"{one.set:<28}{one.name:<17}{figures}  {'passed' if one.passed else 'FAILED'}")
    failed = [one for one in controls if not one.passed]
    if failed:
        print(f"{len(failed)} of {len(controls)} controls failed: do not believe any figure of these sets")
        sys.exit(1)


if __name__ == "__main__":
    run(main)
