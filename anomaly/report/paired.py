"""Methods against a first one on the same frames: differences, how sure they are, and whether they could be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from anomaly.errors import InputError
from anomaly.metrics.bootstrap import Difference, FrameTable, holm, paired_bootstrap
from anomaly.metrics.definitions import title_of

_SHOWN = 3  # AUROC, AP and FPR at TPR lead every list of figures


def paired_markdown(tables: Mapping[str, FrameTable], *, replicates: int = 2000) -> str:
    """Compare every method with the first by the paired bootstrap, as a Markdown table of AUROC, AP and FPR at TPR.

    A cell has the difference to the first method in points of percent, its 95 % percentile interval, and the two-sided
    p-value, corrected by Holm for the number of methods compared with the first.

    Args:
        tables: By the name of the method, at least two, all of one set.
        replicates: Draws of frames.

    Raises:
        InputError: There are less than two methods, or they were not measured on the same frames and labels.

    Warns:
        DegenerateBootstrapWarning: As :func:`anomaly.metrics.bootstrap.paired_bootstrap`.
    """
    if len(tables) < 2:
        raise InputError(f"expected at least two methods to compare, found {', '.join(tables) or 'none'}; name more")
    first, *others = tables
    found = {name: paired_bootstrap(tables[name], tables[first], replicates=replicates) for name in others}
    figures = list(next(iter(found.values())))[:_SHOWN]
    p_values = {figure: holm({name: found[name][figure].p_value for name in others}) for figure in figures}
    header = ["method", *(title for figure in figures for title in (title_of(figure)[0], "p"))]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    exact = [f"{100 * tables[first].values[figure]:.2f}" for figure in figures]
    lines.append([first, *(cell for value in exact for cell in (value, ""))])
    for name in others:
        cells = [(_cell(found[name][figure]), _p_value(p_values[figure][name])) for figure in figures]
        lines.append([name, *(text for pair in cells for text in pair)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(found: Difference) -> str:
    ends = (found.interval.low, found.interval.high)
    return f"{100 * found.difference:+.2f} [{100 * ends[0]:+.2f}, {100 * ends[1]:+.2f}]"


def _p_value(p_value: float) -> str:
    return "nan" if math.isnan(p_value) else f"{p_value:.3f}" if p_value >= 0.0995 else f"{p_value:.2g}"
