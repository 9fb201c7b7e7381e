"""The metrics of a run as a table, for the terminal and for documents."""

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

HEADLINE = re.compile(r"auroc|ap|fpr[\d.]+")  # the pixel metrics that tables show


def results_table(result: EvaluationRecord) -> Group:
    """Format one run for the terminal: one row for each dataset and score, metrics in percent.

    The best value of each dataset and column is bold (highest AUROC and AP, lowest FPR95; ties are all bold). A
    confidence interval is shown below its metric. The closed-set mIoU is in every row. A second table has the other
    metrics; there "@t" means at a threshold chosen on another dataset. ``nan`` means undefined, ``-`` not measured.
    """
    columns = _columns([result])
    pixels, further = ([c for c in columns if (c.part == "values") == wanted] for wanted in (True, False))
    tables = [_table(result, pixels, beside=True)]
    return Group(*tables, *([_table(result, further, beside=False)] if further else []))


def _table(result: EvaluationRecord, columns: list[Column], *, beside: bool) -> Table:
    """Some columns of a run; if ``beside``, with title, number of frames and mIoU."""
    title = Text(result.model["name"]) if beside else None
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # fits into 80 columns
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
    """The table of :func:`results_table` as plain text, at most ``width`` characters wide."""
    console = Console(width=width, color_system=None, file=io.StringIO())
    with console.capture() as captured:
        console.print(results_table(result))
    return captured.get()


def results_markdown(results: list[EvaluationRecord]) -> str:
    """Format several runs as a Markdown table; see :func:`runs_table`."""
    return markdown(runs_table(results))


def runs_table(results: list[EvaluationRecord]) -> TextTable:
    """Format several runs: one row for each model, dataset and score, grouped by dataset.

    Metrics are in percent with 2 decimals. The best value of each dataset and column, over all models, is marked. Runs
    over different numbers of frames are not comparable, so they are grouped separately.
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
    """A column of metrics.

    Args:
        part: Part of a score's result that holds the metric.
        name: Name of the metric.
        title: Title of the column.
        better: ``max`` or ``min``, whichever is better; None if neither is.
    """

    part: str
    name: str
    title: str
    better: Callable[[Iterable[float]], float] | None

    def value(self, score: ScoreResult) -> float:
        """The metric of a score; NaN if it was not measured."""
        return getattr(score, self.part).get(self.name, math.nan)


# Metrics that are shown beside the pixel metrics if they were measured.
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
    """The columns to show, in the order in which their metrics first occur."""
    scores = [score for result in results for entry in result.datasets for score in entry.scores.values()]
    names = dict.fromkeys(name for score in scores for name in score.values if HEADLINE.fullmatch(name))
    further = [column for column in FURTHER if any(column.name in getattr(score, column.part) for score in scores)]
    return [Column("values", name, *title_of(name)) for name in names] + further


def _best(columns: list[Column], scores: Iterable[ScoreResult]) -> list[float]:
    """The best value of each column; NaN, which equals nothing, if all are undefined."""
    scores, best = list(scores), []
    for column in columns:
        defined = [value for score in scores if not math.isnan(value := column.value(score))]
        best.append(column.better(defined) if column.better and defined else math.nan)
    return best


def _cell(score: ScoreResult, column: Column, between: str = " ") -> str:
    """A metric in percent, with two decimals; with a confidence interval, one decimal.

    ``-`` means not measured; for instance, a threshold is not applied to the dataset on which it was chosen.
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
