"""Write the catalogue of datasets into docs/datasets.md."""

from __future__ import annotations

from pathlib import Path

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.errors import InputError
from catalogue import sets_markdown

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- written by tools/dev/datasets_page.py -->\n", "<!-- end -->"


def main() -> None:
    """Insert the catalogue between the marks."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--file", type=Path, default=ROOT / "docs/datasets.md", help="document that holds the catalogue"
    )
    path = parser.parse_args().file
    before, start, rest = path.read_text().partition(START) if path.is_file() else ("", "", "")
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} has no lines {START.strip()!r} and {END!r} to put the catalogue between")
    path.write_text(f"{before}{start}\n{sets_markdown()}\n{end}{after}")


if __name__ == "__main__":
    run(main)
