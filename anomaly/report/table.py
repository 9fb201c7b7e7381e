"""A run's numbers as a table: for the terminal, and for a page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from anomaly.metrics.definitions import title_of
from anomaly.report.formats import Cell, TextTable, markdown
from anomaly.results.records import EvaluationRecord, ScoreResult

HEADLINE = re.compile(r"auroc|ap|fpr[\d.]+")  # the figures that tables show


def results_table(result: EvaluationRecord) -> Group:
    """Lay out one run for the terminal: one row for each set and score, figures in percent.

    The best of each set and column is bold (highest AUROC and AP, lowest FPR95; equals alike). A figure with a
    confidence interval has it below. The closed-set mIoU stands in every row. What goes beyond that is a second table;
    there "@t" is at a threshold chosen on another set. Undefined figures are ``nan``, what was not measured is ``-``.
    """
    columns = _columns([result])
    pixels, further = ([c for c in columns if (c.part == "values") == wanted] for wanted in (True, False))
    tables = [_table(result, pixels, beside=True)]
    return Group(*tables, *([_table(result, further, beside=False)] if further else []))


def _table(result: EvaluationRecord, columns: list[Column], *, beside: bool) -> Table:
    """Some columns of a run, with the title, numbers of frames and the mIoU beside them or not."""
    title = Text(result.model["name"]) if beside else None
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # 80 columns are enough
    table.add_column("dataset", overflow="fold")
    table.add_column("score", overflow="fold")
    ends = (["frames"], ["mIoU"]) if beside else ([], [])
    for header in (*ends[0], *(column.title for column in columns), *ends[1]):
        table.add_column(header, justify="right")
    for entry in result.datasets:
        best = _best(columns, entry.scores.values())
        for score, found in entry.scores.items():
            cells = [
                Text(_cell(found, column, "\n"), "bold" if column.value(found) == top else "")
                for column, top in zip(columns, best, strict=True)
            ]
            around = ([Text(str(entry.frames))], [Text(_miou(result))]) if beside else ([], [])
            table.add_row(Text(entry.dataset), Text(score), *around[0], *cells, *around[1])
        table.add_section()
    return table


def results_text(result: EvaluationRecord, width: int = 100) -> str:
    """:func:`results_table` as plain text, ``width`` characters wide at most."""
    console = Console(width=width, color_system=None, file=io.StringIO())
    with console.capture() as captured:
        console.print(results_table(result))
    return captured.get()


def results_markdown(results: list[EvaluationRecord]) -> str:
    """Lay out several runs as a Markdown table; see :func:`runs_table`."""
    return markdown(runs_table(results))


def runs_table(results: list[EvaluationRecord]) -> TextTable:
    """Lay out several runs: one row for each model, set and score, grouped by set.

    Figures are percent with 2 decimals; the best of each set and column, over all models, is marked. Runs over other
    numbers of frames are not comparable, so they are grouped apart.
    """
    columns = _columns(results)
    rows = []
    for name, frames in dict.fromkeys((entry.dataset, entry.frames) for result in results for entry in result.datasets):
        found = [
            (result, score, measured)
            for result in results
            for entry in result.datasets
            if (entry.dataset, entry.frames) == (name, frames)
            for score, measured in entry.scores.items()
        ]
        best = _best(columns, [measured for _, _, measured in found])
        for result, score, measured in found:
            cells = [
                Cell(_cell(measured, column), column.value(measured) == top)
                for column, top in zip(columns, best, strict=True)
            ]
            names = [Cell(text) for text in (name, result.model["name"], score, str(frames))]
            rows.append([*names, *cells, Cell(_miou(result))])
    return TextTable(
        ["dataset", "model", "score", "frames", *(column.title for column in columns), "mIoU"], rows, left=3
    )


@dataclass(frozen=True)
class Column:
    """A column of figures: where a score's result has them, its heading, and what is better of them."""

    part: str
    name: str
    title: str
    better: Callable[[Iterable[float]], float] | None

    def value(self, score: ScoreResult) -> float:
        """The figure, NaN where it was not measured."""
        return getattr(score, self.part).get(self.name, math.nan)


# What stands beside the pixel figures where it was measured.
FURTHER = (
    Column("components", "f1_mean", "F1*", max),
    Column("components", "siou", "sIoU", max),
    Column("components", "ppv", "PPV", max),
    Column("at_threshold", "tpr", "TPR@t", None),
    Column("at_threshold", "fpr", "FPR@t", None),
    Column("open_world", "open_miou", "open mIoU", max),
    Column("open_world", "gap", "gap", min),
)


def _columns(results: Iterable[EvaluationRecord]) -> list[Column]:
    """The columns to show, in the order in which their figures are first met."""
    scores = [score for result in results for entry in result.datasets for score in entry.scores.values()]
    names = dict.fromkeys(name for score in scores for name in score.values if HEADLINE.fullmatch(name))
    further = [column for column in FURTHER if any(column.name in getattr(score, column.part) for score in scores)]
    return [Column("values", name, *title_of(name)) for name in names] + further


def _best(columns: list[Column], scores: Iterable[ScoreResult]) -> list[float]:
    """Give the best value of each column; NaN, which equals nothing, where it is undefined throughout."""
    scores, best = list(scores), []
    for column in columns:
        defined = [value for score in scores if not math.isnan(value := column.value(score))]
        best.append(column.better(defined) if column.better and defined else math.nan)
    return best


def _cell(score: ScoreResult, column: Column, between: str = " ") -> str:
    """A figure in percent; with its interval, which says how many decimals mean something, with one decimal.

    ``-`` where it was not measured: no threshold is applied to the set it was chosen on.
    """
    value = column.value(score)
    if column.name not in getattr(score, column.part):
        return "-"
    if column.part != "values" or column.name not in score.confidence_intervals:
        return _percent(value)
    low, high = score.confidence_intervals[column.name]
    return f"{100 * value:.1f}{between}[{100 * low:.1f}-{100 * high:.1f}]"


def _miou(result: EvaluationRecord) -> str:
    return "-" if result.closed_set is None else _percent(result.closed_set.miou)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
