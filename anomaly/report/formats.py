"""Tables of text in the formats people put them: documents, papers, spreadsheets, the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table, and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table.

    Args:
        header: Names of the columns.
        rows: One cell for each column.
        left: Number of first columns that hold names and not numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int


def markdown(table: TextTable) -> str:
    """As Markdown, the best bold."""
    lines = [list(table.header), ["---"] * table.left + ["---:"] * (len(table.header) - table.left)]
    lines += [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def latex(table: TextTable) -> str:
    """As a LaTeX ``tabular`` with booktabs' rules, the best bold; every special character is escaped."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    lines = [f"\\begin{{tabular}}{{{'l' * table.left}{'r' * (len(table.header) - table.left)}}}", "\\toprule"]
    lines += [" & ".join(map(escaped, table.header)) + r" \\", "\\midrule"]
    for row in table.rows:
        cells = [f"\\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text) for cell in row]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def comma_separated(table: TextTable) -> str:
    """As CSV, without a mark of the best."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([list(table.header), *([cell.text for cell in row] for row in table.rows)])
    return text.getvalue()


def terminal(table: TextTable) -> str:
    """For a terminal, as wide as it is, the best bold where it has colours."""
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
