"""A run's numbers as a table: for the terminal, and for a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from anomaly.metrics.figures import title_of
from anomaly.result import RunResult, ScoreResult

_HEADLINE = re.compile(r"auroc|ap|fpr[\d.]+")  # the figures that tables show


def results_table(result: RunResult) -> Table:
    """Lay out one run for the terminal: one row for each set and score, figures in percent.

    The best of each set and column is bold (highest AUROC and AP, lowest FPR95; equals alike). A figure with a
    confidence interval has it beside it. Undefined figures are ``nan``. The closed-set mIoU stands in every row, ``-``
    where it was not measured.
    """
    names = _headline([result])
    table = Table(title=Text(result.model["name"]))
    table.add_column("set")
    table.add_column("score")
    for header in ("frames", *(title_of(name)[0] for name in names), "mIoU"):
        table.add_column(header, justify="right")
    for entry in result.sets:
        best = _best(names, entry.scores.values())
        for score, found in entry.scores.items():
            cells = [
                Text(_cell(found, name), "bold" if found.figures.get(name) == best[name] else "") for name in names
            ]
            table.add_row(Text(entry.set), Text(score), str(entry.frames), *cells, _miou(result))
        table.add_section()
    return table


def results_markdown(results: list[RunResult]) -> str:
    """Lay out several runs as a Markdown table: one row for each model, set and score, grouped by set.

    Figures are percent with 2 decimals; the best of each set and column, over all models, is bold. Runs over other
    numbers of frames are not comparable, so they are grouped apart.
    """
    names = _headline(results)
    header = ["set", "model", "score", "frames", *(title_of(name)[0] for name in names), "mIoU"]
    lines = [header, ["---"] * 3 + ["---:"] * (len(header) - 3)]
    for name, frames in dict.fromkeys((entry.set, entry.frames) for result in results for entry in result.sets):
        rows = [
            (result, score, found)
            for result in results
            for entry in result.sets
            if (entry.set, entry.frames) == (name, frames)
            for score, found in entry.scores.items()
        ]
        best = _best(names, [found for _, _, found in rows])
        for result, score, found in rows:
            cells = [
                f"**{_cell(found, figure)}**" if found.figures.get(figure) == best[figure] else _cell(found, figure)
                for figure in names
            ]
            lines.append([name, result.model["name"], score, str(frames), *cells, _miou(result)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _headline(results: Iterable[RunResult]) -> list[str]:
    """Names of the figures to show, in the order in which they are first met."""
    scores = [score for result in results for entry in result.sets for score in entry.scores.values()]
    return list(dict.fromkeys(name for score in scores for name in score.figures if _HEADLINE.fullmatch(name)))


def _best(names: list[str], scores: Iterable[ScoreResult]) -> dict[str, float]:
    """Give the best value of each figure; NaN, which equals nothing, where it is undefined throughout."""
    scores, best = list(scores), {}
    for name in names:
        defined = [value for score in scores if not math.isnan(value := score.figures.get(name, math.nan))]
        pick = title_of(name)[1]
        best[name] = pick(defined) if pick and defined else math.nan
    return best


def _cell(score: ScoreResult, name: str) -> str:
    """A figure in percent; with its interval, which says how many decimals mean something, with one decimal."""
    value = score.figures.get(name, math.nan)
    if name not in score.intervals:
        return _percent(value)
    low, high = score.intervals[name]
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _miou(result: RunResult) -> str:
    return "-" if result.closed_set is None else _percent(result.closed_set.miou)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
