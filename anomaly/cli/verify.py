"""Measure a result again, from its checkpoint or from score maps, and say whether it matches.

Examples:
    python tools/verify.py RESULTS.json CONFIG CHECKPOINT
    python tools/verify.py RESULTS.json --predictions maps
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli import evaluate
from anomaly.cli.parser import command_parser
from anomaly.cli.repeat import settings_of
from anomaly.errors import InputError
from anomaly.results.records import read_results
from anomaly.results.verification import agreements, not_measured


def main(words: Sequence[str] | None = None) -> None:
    """Repeat the measurement with the record's settings, say whether it matches; status 1 if it does not."""
    parser = command_parser(__doc__, "anomaly verify")
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="results.json of tools/ood_eval.py")
    add("config", nargs="?", help="the network's config")
    add("checkpoint", nargs="?", help="its checkpoint")
    add("--predictions", metavar="DIR", help="its score maps, instead of config and checkpoint")
    add("--score-scale", nargs=2, metavar=("LOW", "HIGH"), help="what the least and largest integer mean")
    add("--statistics", metavar="FILE", help="what its scores were fitted to (tools/fit_scores.py)")
    add("--data-root", metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings that were overridden")
    add("--folder", nargs=2, metavar=("IMAGES", "LABELS"), help="where a set of two folders is")
    add("--label-values", nargs="+", metavar="V=MEANING", help="what its label maps mean")
    add("--tolerance", type=float, default=1e-6, help="largest difference of a figure (default: 1e-6)")
    args = parser.parse_args(words)
    if not 0 <= args.tolerance <= 0.01:
        raise InputError(f"--tolerance: expected a difference of figures from 0 to 0.01, found {args.tolerance}")
    record = read_results(args.results)
    with tempfile.TemporaryDirectory() as out:
        words = [
            *_subject(args),
            *settings_of(
                record,
                folder=args.folder is not None,
                label_values=args.label_values is not None,
                network=args.predictions is None,
            ),
            "--out",
            out,
            "--heatmaps",
            "none",
        ]
        again = evaluate.measure(evaluate.parse_args(words))[0]
    faults = False
    for agreement in agreements(record, again, args.tolerance):
        print(agreement)
        faults |= bool(agreement.faults)
    missing = not_measured(record, again)
    for what in missing:
        print(f"{what}: not measured again")
    rest = f", but for what was not measured again ({', '.join(missing)})" if missing else ""
    print("the result does NOT come out again" if faults else f"the result comes out again{rest}")
    sys.exit(int(faults))


def _subject(args: argparse.Namespace) -> list[str]:
    words = [word for word in (args.config, args.checkpoint) if word is not None]
    for option in ("predictions", "score_scale", "statistics", "data_root", "cfg_options", "folder", "label_values"):
        if value := getattr(args, option):
            words += [f"--{option.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return words
