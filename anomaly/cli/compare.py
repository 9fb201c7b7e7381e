"""Several runs in one table, or what differs between them.

Results of other frames, labels or rules are refused, with what differs. What needs every pixel's score needs results
of ``anomaly evaluate --save-states``.

Examples:
    anomaly compare a/results.json b/results.json
    anomaly compare a/results.json b/results.json --format latex
    anomaly compare a/results.json b/results.json --paired
    anomaly compare a/results.json --conventions
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.cli.parser import command_parser
from anomaly.errors import InputError
from anomaly.report.formats import FORMATS
from anomaly.utils.names import check_distinct

if TYPE_CHECKING:
    from anomaly.metrics.bootstrap import FrameTable
    from anomaly.results.records import EvaluationRecord


def main(words: Sequence[str] | None = None) -> None:
    """Read results and print their table."""
    parser = command_parser(__doc__, "anomaly compare")
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help="results.json of anomaly evaluate")
    kept = "; needs what anomaly evaluate --save-states keeps beside results.json, or takes such .npz files themselves"
    add("--paired", action="store_true", help="each method minus the first, with intervals and p-values" + kept)
    add("--conventions", action="store_true", help="AUROC, AP and FPR95 as other projects compute them" + kept)
    add("--json", type=Path, metavar="FILE", help="with --conventions: write the figures there too")
    add("--format", choices=FORMATS, default="markdown", help="of the table of runs (default: markdown)")
    args = parser.parse_args(words)
    if (args.json and not args.conventions) or (args.paired and args.conventions):
        raise InputError("--json goes with --conventions, and --paired without; leave one out")
    if "format" in args.given and (args.paired or args.conventions):
        raise InputError(
            "--format is of the table of runs, which --paired and --conventions leave out; give one of them"
        )
    if args.json and not args.json.absolute().parent.is_dir():
        raise InputError(f"--json: expected a file in a folder that is there, found {args.json}")
    if args.conventions:
        compare_conventions(args.results, args.json)
    else:
        compare_paired(args.results) if args.paired else compare_runs(args.results, args.format)


def named_results(paths: list[Path]) -> dict[Path, EvaluationRecord]:
    """Read results; where two have one name, each gets its folder's too.

    Raises:
        InputError: A file is there twice.
    """
    from anomaly.results.records import read_results

    check_distinct((str(path.resolve()) for path in paths), "results", "name each file once")
    results = {path: read_results(path) for path in paths}
    names = Counter(result.model["name"] for result in results.values())
    return {
        path: result
        if names[result.model["name"]] == 1
        else replace(result, model={**result.model, "name": f"{result.model['name']} ({path.parent})"})
        for path, result in results.items()
    }


def compare_runs(paths: list[Path], form: str) -> None:
    """Print one table, what it does not show on stderr, and the paired differences where all scores were kept."""
    from anomaly.report.table import runs_table
    from anomaly.results.comparison import check_comparable, remarks
    from anomaly.results.records import have_states

    check_comparable(results := list(named_results(paths).values()))
    print(FORMATS[form](runs_table(results)), end="")
    for remark in remarks(results):
        print(f"note: {remark}", file=sys.stderr)
    if len(paths) > 1 and form in ("markdown", "terminal") and all(map(have_states, paths)):
        print("\nDifferences, 95 % intervals and p-values on the same frames:\n")
        compare_paired(paths)


def compare_paired(results: list[Path]) -> None:
    """Print a table for each set: the first method, and by how much the others differ."""
    from anomaly.metrics.bootstrap import FrameTable
    from anomaly.metrics.pixel import PixelMetrics
    from anomaly.report.paired import paired_markdown
    from anomaly.results.records import state_files

    tables: dict[str, dict[str, FrameTable]] = {}
    named = named_results([path for path in results if path.suffix != ".npz"])
    for path in results:
        model = named[path].model["name"] if path in named else path
        for state in state_files(path):
            metrics = PixelMetrics.load(state)
            methods, name = tables.setdefault(metrics.dataset, {}), f"{model} {metrics.name}"
            if name in methods:
                raise InputError(f"{path}: expected methods of different names, found {name!r} twice")
            methods[name] = FrameTable.of(metrics)
    for name, methods in tables.items():
        print(f"{name}, each minus the first:\n\n{paired_markdown(methods)}")


def compare_conventions(results: list[Path], out: Path | None) -> None:
    """Print a table for each set and score of the runs."""
    from anomaly.metrics.pixel import PixelMetrics
    from anomaly.report.conventions import MeasuredSet, conventions_json, conventions_markdown
    from anomaly.results.records import state_files

    measured = []
    for state in (state for path in results for state in state_files(path)):
        metrics = PixelMetrics.load(state)
        measured.append(MeasuredSet.of(metrics.dataset, metrics.name, metrics.frames()))
        print(f"{metrics.dataset or state.name}, {metrics.name}:\n\n{conventions_markdown(measured[-1])}")
    if out is not None:
        out.write_text(conventions_json(measured))
