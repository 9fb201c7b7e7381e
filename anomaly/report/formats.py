"""Formats of text tables: Markdown, LaTeX, CSV and terminals."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: Its text.
        best: Whether it is the best of its column.
    """

    text: str
    best: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Args:
        header: Titles of the columns.
        rows: One cell for each column.
        left: Number of leading columns that hold names, not numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int


def markdown(table: TextTable) -> str:
    """Format as Markdown, with the best values in bold."""
    lines = [list(table.header), ["---"] * table.left + ["---:"] * (len(table.header) - table.left)]
    lines += [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def latex(table: TextTable) -> str:
    """Format as a LaTeX ``tabular`` with booktabs rules and the best values in bold; special characters are escaped."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    lines = [f"\\begin{{tabular}}{{{'l' * table.left}{'r' * (len(table.header) - table.left)}}}", "\\toprule"]
    lines += [" & ".join(map(escaped, table.header)) + r" \\", "\\midrule"]
    for row in table.rows:
        cells = [f"\\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text) for cell in row]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def comma_separated(table: TextTable) -> str:
    """Format as CSV; best values are not marked."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([list(table.header), *([cell.text for cell in row] for row in table.rows)])
    return text.getvalue()


def terminal(table: TextTable) -> str:
    """Format for the terminal, at its width, with the best values in bold if it supports styles."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    laid_out = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, name in enumerate(table.header):
        laid_out.add_column(name, justify="left" if place < table.left else "right", overflow="fold")
    for row in table.rows:
        laid_out.add_row(*(Text(cell.text, "bold" if cell.best else "") for cell in row))
    console = Console()
    with console.capture() as captured:
        console.print(laid_out)
    return captured.get()


FORMATS: dict[str, Callable[[TextTable], str]] = {
    "markdown": markdown,
    "terminal": terminal,
    "latex": latex,
    "csv": comma_separated,
}
