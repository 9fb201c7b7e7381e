"""Metrics of one method under every convention, as a table and as a JSON file."""

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

_METRICS = ("auroc", "ap", "fpr95")
_TITLES = ("AUROC", "AP", "FPR95")
_WRITER = "anomaly compare --conventions RESULTS --json FILE"


@dataclass(frozen=True)
class MeasuredDataset:
    """Metrics of one score on one dataset under every convention.

    Args:
        dataset: Name of the dataset.
        score: Name of the score.
        values: Metrics by the name of the convention; ``ours`` is the package's own.
    """

    dataset: str
    score: str
    values: dict[str, ConventionValues]

    @classmethod
    def of(cls, dataset: str, score: str, frames: Frames) -> MeasuredDataset:
        """Measure a dataset; see :func:`anomaly.metrics.conventions.convention_table`."""
        return cls(dataset, score, {convention.name: values for convention, values in convention_table(frames)})


def conventions_markdown(measured: MeasuredDataset, more: Iterable[tuple[str, str, ConventionValues]] = ()) -> str:
    """Format the metrics of one dataset as a Markdown table.

    Each convention has a row with its metrics in percent, followed by the differences to the package's own in
    parentheses.

    Args:
        measured: The metrics; conventions that this version does not know are left out.
        more: Rows to add after the first one: texts of the first two columns, and metrics.
    """
    ours = measured.values["ours"]
    rows = [
        (f"`{name}`", convention.title, measured.values[name], convention.used_by)
        for name, convention in CONVENTIONS.items()
        if name in measured.values
    ]
    rows[1:1] = [(name, title, values, "") for name, title, values in more]
    lines = [["convention", "rule", *_TITLES, "images", "used by"], ["---"] * 2 + ["---:"] * 4 + ["---"]]
    for name, title, values, used_by in rows:
        cells = [_cell(getattr(values, metric), getattr(ours, metric), values is ours) for metric in _METRICS]
        lines.append([name, title, *cells, str(values.frames), used_by])
    return _markdown(lines)


def differences_markdown(conventions: Iterable[Convention] = tuple(CONVENTIONS.values())) -> str:
    """Format the differences of each convention to the package's own metrics as a Markdown table."""
    lines = [["convention", "used by", "differs from ours"], ["---"] * 3]
    return _markdown([*lines, *([f"`{one.name}`", one.used_by, one.differs] for one in conventions)])


def conventions_json(datasets: Iterable[MeasuredDataset]) -> str:
    """Convert datasets to indented JSON, with null for NaN; :func:`read_conventions` reads it."""
    records = []
    for one in datasets:
        found = {name: asdict(values) for name, values in one.values.items()}
        for values in found.values():
            values |= {name: None if math.isnan(values[name]) else values[name] for name in _METRICS}
        records.append({"set": one.dataset, "score": one.score, "figures": found})
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def read_conventions(path: Path) -> list[MeasuredDataset]:
    """Read a file of :func:`conventions_json`.

    Raises:
        InputError: The file is missing or something else.
    """
    try:
        return [_measured(record) for record in json.loads(path.read_text())]
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected a file of {_WRITER}, found no such file; check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a file of {_WRITER}, found something else ({type(error).__name__}: {error}); write "
            "it again"
        ) from error


def _measured(record: dict[str, Any]) -> MeasuredDataset:
    measured = {}
    for name, found in record["figures"].items():
        values = [math.nan if found[metric] is None else float(found[metric]) for metric in _METRICS]
        measured[name] = ConventionValues(values[0], values[1], values[2], int(found["frames"]))
    if "ours" not in measured:
        raise KeyError("ours")
    return MeasuredDataset(record["set"], record["score"], measured)


def _cell(value: float, ours: float, is_ours: bool) -> str:
    if is_ours or math.isnan(value - ours):
        return f"{100 * value:.2f}"
    difference = round(100 * (value - ours), 2)
    return f"{100 * value:.2f} ({difference:+.2f})" if difference else f"{100 * value:.2f} (0.00)"


def _markdown(lines: Iterable[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
