"""Several runs in one table: ``python tools/compare.py RESULTS...``; or one by everybody's rules: ``--conventions``."""

from __future__ import annotations

import argparse
from pathlib import Path

from _run import run
from anomaly.errors import InputError
from anomaly.report.table import results_markdown
from anomaly.result import read_results


def main() -> None:
    """Read results and print their table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help="results.json of tools/ood_eval.py")
    add(
        "--conventions",
        action="store_true",
        help="AUROC, AP and FPR95 as other projects compute them; needs what ood_eval.py --save-states keeps beside "
        "results.json, or takes such a .npz file itself",
    )
    add("--json", type=Path, metavar="FILE", help="with --conventions: write the figures there too")
    args = parser.parse_args()
    if args.conventions:
        compare_conventions(args.results, args.json)
    elif args.json:
        raise InputError("--json goes with --conventions; results.json holds the figures already")
    else:
        print(results_markdown([read_results(path) for path in args.results]), end="")


def compare_conventions(results: list[Path], out: Path | None) -> None:
    """Print a table for each set and score of the runs."""
    from anomaly.metrics.pixel import PixelMetrics
    from anomaly.report.conventions import MeasuredSet, conventions_json, conventions_markdown

    measured = []
    for state in [state for path in results for state in states_of(path)]:
        metrics = PixelMetrics.load(state)
        measured.append(MeasuredSet.of(metrics.set, metrics.name, metrics.frames()))
        print(f"{metrics.set or state.name}, {metrics.name}:\n\n{conventions_markdown(measured[-1])}")
    if out is not None:
        out.write_text(conventions_json(measured))


def states_of(path: Path) -> list[Path]:
    """The files of scores that belong to a ``results.json``; a ``.npz`` file stands for itself.

    Raises:
        InputError: There are none, or not all.
    """
    if path.suffix == ".npz":
        return [path]
    names = [f"{entry.set}.{score}.npz" for entry in read_results(path).sets for score in entry.scores]
    states = [path.parent / "states" / name for name in names]
    if missing := [state.name for state in states if not state.is_file()]:
        raise InputError(
            f"{path}: expected every pixel's score in {path.parent / 'states'}, found no {', '.join(missing)}; "
            "evaluate again with tools/ood_eval.py --save-states"
        )
    return states


if __name__ == "__main__":
    run(main)
