"""Measure a result again: ``python tools/verify.py RESULTS.json CONFIG CHECKPOINT``.

Or from score maps: ``python tools/verify.py RESULTS.json --predictions DIR``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import ood_eval
from _repeat import settings_of
from _run import run
from anomaly.result import read_results
from anomaly.verification import agreements


def main() -> None:
    """Repeat the measurement with the record's settings, say whether it matches; status 1 if it does not."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    args = parser.parse_args()
    record = read_results(args.results)
    with tempfile.TemporaryDirectory() as out:
        words = [*_subject(args), *settings_of(record, args.folder is not None), "--out", out, "--heatmaps", "none"]
        again = ood_eval.measure(ood_eval.parse_args(words))[0]
    faults = False
    for name in ("config", "checkpoint"):
        mine, theirs = (one.provenance.get(name, {}).get("sha256") for one in (record, again))
        if mine and theirs and mine != theirs:
            print(f"{name}: another file (SHA-256 recorded {mine}, found {theirs})")
    for agreement in agreements(record, again, args.tolerance):
        print(agreement)
        faults |= bool(agreement.faults)
    print("the result does NOT come out again" if faults else "the result comes out again")
    sys.exit(int(faults))


def _subject(args: argparse.Namespace) -> list[str]:
    words = [word for word in (args.config, args.checkpoint) if word is not None]
    for option in ("predictions", "score_scale", "statistics", "data_root", "cfg_options", "folder", "label_values"):
        if value := getattr(args, option):
            words += [f"--{option.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return words


if __name__ == "__main__":
    run(main)
