"""Compare results in one table, or show the differences between them.

Results of different frames, labels or rules are refused, with what differs. The paired comparison and the conventions
need every pixel's score, as ``anomaly evaluate --save-states`` keeps it.

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

from anomaly.cli.options import result_path
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
    add("results", nargs="+", type=result_path, metavar="RESULTS", help="results.json of anomaly evaluate")
    kept = "; needs the files that anomaly evaluate --save-states writes beside results.json, or takes such .npz files"
    add(
        "--paired",
        action="store_true",
        help="each method minus the first, with confidence intervals and p-values" + kept,
    )
    add("--conventions", action="store_true", help="AUROC, AP and FPR95 as other projects compute them" + kept)
    add("--json", type=Path, metavar="FILE", help="with --conventions: also write the metrics to this file")
    add("--format", choices=FORMATS, default="markdown", help="format of the table of results (default: markdown)")
    args = parser.parse_args(words)
    if (args.json and not args.conventions) or (args.paired and args.conventions):
        raise InputError(
            "--json: expected it with --conventions, and --paired without --conventions; omit one of the options"
        )
    if "format" in args.given and (args.paired or args.conventions):
        raise InputError(
            "--format: expected the table of results, which --paired and --conventions do not print; omit one of the "
            "options"
        )
    if args.json and not args.json.absolute().parent.is_dir():
        raise InputError(f"--json: expected a file in an existing folder, found {args.json}; create the folder first")
    if args.conventions:
        compare_conventions(args.results, args.json)
    else:
        compare_paired(args.results) if args.paired else compare_runs(args.results, args.format)


def named_results(paths: list[Path]) -> dict[Path, EvaluationRecord]:
    """Read results; if two models have the same name, append the folder of the file to it.

    Raises:
        InputError: A file is given twice.
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
    """Print one table, remarks on stderr, and the paired differences if all results have their scores."""
    from anomaly.report.table import runs_table
    from anomaly.results.comparison import check_comparable, remarks
    from anomaly.results.records import have_states

    check_comparable(results := list(named_results(paths).values()))
    print(FORMATS[form](runs_table(results)), end="")
    for remark in remarks(results):
        print(f"note: {remark}", file=sys.stderr)
    if len(paths) > 1 and form in ("markdown", "terminal") and all(map(have_states, paths)):
        print("\nDifferences, 95 % confidence intervals and p-values on the same frames:\n")
        compare_paired(paths)


def compare_paired(results: list[Path]) -> None:
    """Print a table for each dataset: the first method, and the differences of the others to it."""
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
                raise InputError(
                    f"{path}: expected methods with different names, found {name!r} twice; compare other results"
                )
            methods[name] = FrameTable.of(metrics)
    for name, methods in tables.items():
        print(f"{name}, each minus the first:\n\n{paired_markdown(methods)}")


def compare_conventions(results: list[Path], out: Path | None) -> None:
    """Print a table for each dataset and score of the results."""
    from anomaly.metrics.pixel import PixelMetrics
    from anomaly.report.conventions import MeasuredDataset, conventions_json, conventions_markdown
    from anomaly.results.records import state_files

    measured = []
    for state in (state for path in results for state in state_files(path)):
        metrics = PixelMetrics.load(state)
        measured.append(MeasuredDataset.of(metrics.dataset, metrics.name, metrics.frames()))
        print(f"{metrics.dataset or state.name}, {metrics.name}:\n\n{conventions_markdown(measured[-1])}")
    if out is not None:
        out.write_text(conventions_json(measured))
