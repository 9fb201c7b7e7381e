"""Measure how fast and how exact a piece is, against another way in the same run: ``benchmark.py density``."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from _run import run

NAMES = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("[!_]*.py"))


def main() -> None:
    """Run the benchmark of that name and print what it measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES, help="a file in tools/benchmarks/")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line of its own")
    args = parser.parse_args()
    module = importlib.import_module(f"benchmarks.{args.name}")
    figures: dict[str, float | int | str] = module.measure()
    table = Table("figure", "value", title=(module.__doc__ or args.name).partition("\n")[0])
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if args.json:
        print(json.dumps({"benchmark": args.name, **figures}))


if __name__ == "__main__":
    run(main)
