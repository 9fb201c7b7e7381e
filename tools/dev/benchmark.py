"""Measure speed and accuracy of a component, and compare it with a reference in the same run.

Examples:
    python tools/dev/benchmark.py density
    python tools/dev/benchmark.py scores --json
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run

NAMES = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("[!_]*.py"))


def show(title: str, values: dict[str, Any], criteria: dict[str, tuple[str, float]]) -> None:
    """Print the values, nested ones indented, and whether each criterion holds."""
    table = Table("quantity", "value", "must be", title=title)

    def add(name: str, value: Any, depth: int = 0) -> None:
        label = "  " * depth + name
        if isinstance(value, dict):
            table.add_row(label, "", "")
            for key, part in value.items():
                add(key, part, depth + 1)
            return
        required = ""
        if name in criteria:
            direction, limit = criteria[name]
            holds = value >= limit if direction == "at least" else value <= limit
            required = f"{direction} {limit:g}: {'holds' if holds else 'FAILS'}"
        table.add_row(label, f"{value:.4g}" if isinstance(value, float) else str(value), required)

    for name, value in values.items():
        add(name, value)
    Console().print(table)


def main() -> None:
    """Run a benchmark and print what it measured."""
    parser = command_parser(__doc__)
    parser.add_argument("name", choices=NAMES, help="name of a file in tools/dev/benchmarks/")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the values to this file; without FILE, print them as the last line",
    )
    args = parser.parse_args()
    if args.json not in (None, "-") and not Path(args.json).parent.is_dir():
        parser.error(f"--json {args.json}: no such folder; create it first")
    module = importlib.import_module(f"benchmarks.{args.name}")
    values = module.measure()
    show((module.__doc__ or args.name).partition("\n")[0], values, getattr(module, "CRITERIA", {}))
    record = {"benchmark": args.name, **values}
    if args.json == "-":
        print(json.dumps(record))
    elif args.json:
        Path(args.json).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
