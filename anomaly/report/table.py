"""A run's numbers as a table: for the terminal, and for a page."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from anomaly.metrics.pixel import PixelResult
from anomaly.result import RunResult

_METRICS = {"AUROC": "auroc", "AP": "ap", "FPR95": "fpr95"}


def results_table(result: RunResult) -> Table:
    """Lay out one run for the terminal: one row for each set and score, figures in percent with 2 decimals.

    The best of each set and column is bold (highest AUROC and AP, lowest FPR95; equals alike). Undefined
    figures are ``nan``. The closed-set mIoU stands in every row, ``-`` where it was not measured.
    """
    table = Table(title=Text(result.model["name"]))
    table.add_column("set")
    table.add_column("score")
    for header in ("frames", *_METRICS, "mIoU"):
        table.add_column(header, justify="right")
    for entry in result.sets:
        best = _best(entry.scores.values())
        for score, pixels in entry.scores.items():
            cells = [
                Text(_percent(value), "bold" if value == best[name] else "") for name, value in _figures(pixels).items()
            ]
            table.add_row(Text(entry.set), Text(score), str(entry.frames), *cells, _miou(result))
        table.add_section()
    return table


def results_markdown(results: list[RunResult]) -> str:
    """Lay out several runs as a Markdown table: one row for each model, set and score, grouped by set.

    Figures are percent with 2 decimals; the best of each set and column, over all models, is bold. Runs over other
    numbers of frames are not comparable, so they are grouped apart.
    """
    header = ["set", "model", "score", "frames", *_METRICS, "mIoU"]
    lines = [header, ["---"] * 3 + ["---:"] * (len(header) - 3)]
    for name, frames in dict.fromkeys((entry.set, entry.frames) for result in results for entry in result.sets):
        rows = [
            (result, score, pixels)
            for result in results
            for entry in result.sets
            if (entry.set, entry.frames) == (name, frames)
            for score, pixels in entry.scores.items()
        ]
        best = _best(pixels for _, _, pixels in rows)
        for result, score, pixels in rows:
            cells = [
                f"**{_percent(value)}**" if value == best[metric] else _percent(value)
                for metric, value in _figures(pixels).items()
            ]
            lines.append([name, result.model["name"], score, str(frames), *cells, _miou(result)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figures(pixels: PixelResult) -> dict[str, float]:
    return {metric: getattr(pixels, metric) for metric in _METRICS.values()}


def _best(results: Iterable[PixelResult]) -> dict[str, float]:
    """Give the best value of each metric; NaN, which equals nothing, where it is undefined throughout."""
    figures = [_figures(pixels) for pixels in results]
    best = {}
    for metric in _METRICS.values():
        defined = [each[metric] for each in figures if not math.isnan(each[metric])]
        pick = min if metric == "fpr95" else max
        best[metric] = pick(defined, default=math.nan)
    return best


def _miou(result: RunResult) -> str:
    return "-" if result.closed_set is None else _percent(result.closed_set.miou)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
