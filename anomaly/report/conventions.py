"""One method under every convention, as a table and as a record on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anomaly.errors import InputError
from anomaly.metrics.convention_rules import ConventionValues, Frames
from anomaly.metrics.conventions import CONVENTIONS, Convention, convention_table

_FIGURES = ("auroc", "ap", "fpr95")
_TITLES = ("AUROC", "AP", "FPR95")
_WRITER = "anomaly compare --conventions RESULTS --json FILE"


@dataclass(frozen=True)
class MeasuredSet:
    """What every convention gives of one score on one set.

    Args:
        dataset: Name of the evaluation set.
        score: Name of the score.
        values: By the convention's name, the package's own (``ours``) among them.
    """

    dataset: str
    score: str
    values: dict[str, ConventionValues]

    @classmethod
    def of(cls, dataset: str, score: str, frames: Frames) -> MeasuredSet:
        """Measure a set; see :func:`anomaly.metrics.conventions.convention_table`."""
        return cls(dataset, score, {convention.name: figures for convention, figures in convention_table(frames)})


def conventions_markdown(measured: MeasuredSet, more: Iterable[tuple[str, str, ConventionValues]] = ()) -> str:
    """Lay out one set as a Markdown table: a row for each convention, figures in percent, differences to ours behind.

    Args:
        measured: What to show; conventions that this version does not know are left out.
        more: Rows to add after the first: what stands in the first two columns, and figures.
    """
    ours = measured.values["ours"]
    rows = [
        (f"`{name}`", convention.title, measured.values[name], convention.used_by)
        for name, convention in CONVENTIONS.items()
        if name in measured.values
    ]
    rows[1:1] = [(name, title, figures, "") for name, title, figures in more]
    lines = [["convention", "rule", *_TITLES, "images", "used by"], ["---"] * 2 + ["---:"] * 4 + ["---"]]
    for name, title, figures, used_by in rows:
        cells = [_cell(getattr(figures, figure), getattr(ours, figure), figures is ours) for figure in _FIGURES]
        lines.append([name, title, *cells, str(figures.frames), used_by])
    return _markdown(lines)


def differences_markdown(conventions: Iterable[Convention] = tuple(CONVENTIONS.values())) -> str:
    """Lay out in what each convention differs from the package's own figures."""
    lines = [["convention", "used by", "differs from ours"], ["---"] * 3]
    return _markdown([*lines, *([f"`{one.name}`", one.used_by, one.differs] for one in conventions)])


def conventions_json(datasets: Iterable[MeasuredSet]) -> str:
    """Write datasets as indented JSON, NaN as null; see :func:`read_conventions`."""
    records = []
    for one in datasets:
        found = {name: asdict(values) for name, values in one.values.items()}
        for values in found.values():
            values |= {name: None if math.isnan(values[name]) else values[name] for name in _FIGURES}
        records.append({"set": one.dataset, "score": one.score, "figures": found})
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def read_conventions(path: Path) -> list[MeasuredSet]:
    """Read a file of :func:`conventions_json`.

    Raises:
        InputError: The file is missing or something else.
    """
    try:
        return [_measured(record) for record in json.loads(path.read_text())]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {_WRITER} writes it") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected what {_WRITER} writes, found something else ({type(error).__name__}: {error}); write "
            "it again"
        ) from error


def _measured(record: dict[str, Any]) -> MeasuredSet:
    figures = {}
    for name, found in record["figures"].items():
        values = [math.nan if found[figure] is None else float(found[figure]) for figure in _FIGURES]
        figures[name] = ConventionValues(values[0], values[1], values[2], int(found["frames"]))
    if "ours" not in figures:
        raise KeyError("ours")
    return MeasuredSet(record["set"], record["score"], figures)


def _cell(value: float, ours: float, is_ours: bool) -> str:
    if is_ours or math.isnan(value - ours):
        return f"{100 * value:.2f}"
    difference = round(100 * (value - ours), 2)
    return f"{100 * value:.2f} ({difference:+.2f})" if difference else f"{100 * value:.2f} (0.00)"


def _markdown(lines: Iterable[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
