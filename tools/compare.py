"""Several runs in one table: ``python tools/compare.py RESULTS.json... [--markdown]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from _run import run
from anomaly.report.table import results_markdown
from anomaly.result import read_results


def main() -> None:
    """Read results and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="results.json of tools/ood_eval.py")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for a document")
    args = parser.parse_args()
    table = results_markdown([read_results(path) for path in args.results])
    if args.markdown:
        print(table, end="")
    else:
        Console().print(Markdown(table))


if __name__ == "__main__":
    run(main)
