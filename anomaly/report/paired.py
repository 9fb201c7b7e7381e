"""Paired differences of methods to a first one on the same frames, as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anomaly.metrics.bootstrap import FrameTable
from anomaly.metrics.definitions import title_of
from anomaly.results.frames import paired_frame


def paired_markdown(tables: Mapping[str, FrameTable], *, replicates: int = 2000) -> str:
    """Compare every method with the first one, as a Markdown table of AUROC, AP and FPR at TPR.

    A cell has the difference to the first method in percentage points, its 95 % confidence interval, and the two-sided
    p-value; see :func:`anomaly.results.frames.paired_frame`.

    Args:
        tables: Counts of each frame by the name of the method; at least two, all of one dataset.
        replicates: Number of bootstrap replicates.

    Raises:
        InputError: There are fewer than two methods, or they were not measured on the same frames and labels.
    """
    found = paired_frame(tables, replicates=replicates)
    metrics, first = list(dict.fromkeys(found["metric"])), next(iter(tables))
    header = ["method", *(title for metric in metrics for title in (title_of(metric)[0], "p"))]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    exact = [f"{100 * tables[first].values[metric]:.2f}" for metric in metrics]
    lines.append([first, *(cell for value in exact for cell in (value, ""))])
    for name, rows in found.groupby("method", sort=False):
        cells = [(_cell(row), _p_value(row.p_value)) for row in rows.itertuples()]
        lines.append([str(name), *(text for pair in cells for text in pair)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row: Any) -> str:
    return f"{100 * row.difference:+.2f} [{100 * row.low:+.2f}, {100 * row.high:+.2f}]"


def _p_value(p_value: float) -> str:
    return "nan" if math.isnan(p_value) else f"{p_value:.3f}" if p_value >= 0.0995 else f"{p_value:.2g}"
