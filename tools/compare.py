"""Several runs in one Markdown table: ``python tools/compare.py RESULTS.json...``."""

from __future__ import annotations

import argparse
from pathlib import Path

from _run import run
from anomaly.report.table import results_markdown
from anomaly.result import read_results


def main() -> None:
    """Read results and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="results.json of tools/ood_eval.py")
    args = parser.parse_args()
    print(results_markdown([read_results(path) for path in args.results]), end="")


if __name__ == "__main__":
    run(main)
