"""Results as pandas data frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anomaly.errors import InputError
from anomaly.metrics.bootstrap import FrameTable, holm, paired_bootstrap
from anomaly.results.records import EvaluationRecord

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 3  # number of metrics to compare: AUROC, AP and FPR at TPR come first in every list


def results_frame(records: Sequence[EvaluationRecord]) -> DataFrame:
    """Results as a data frame with one row for each model, dataset and score.

    The columns are ``model``, ``dataset``, ``score``, counts of frames and pixels, then the metrics as fractions in
    0..1. A metric with a confidence interval is followed by ``NAME_low`` and ``NAME_high``. Then come
    ``components.NAME``, ``open_world.NAME`` and ``at_threshold.NAME``, and last ``miou`` of the closed set.
    """
    from pandas import DataFrame

    rows = [{"model": record.model["name"], **row} for record in records for row in record.rows()]
    rows = [{**row, "miou": math.nan if row["miou"] == "" else row["miou"]} for row in rows]
    columns = dict.fromkeys(column for row in rows for column in row if column != "miou")
    return DataFrame(rows, columns=[*columns, "miou"])


def paired_frame(tables: Mapping[str, FrameTable], *, replicates: int = 2000) -> DataFrame:
    """Differences of each method to the first one on the same frames, by the paired bootstrap over frames.

    Args:
        tables: Counts of each frame, by the name of the method; at least two, all of one dataset.
        replicates: Number of bootstrap replicates.

    Returns:
        One row for each other method and metric (AUROC, AP, FPR at TPR). The columns are ``method``, ``minus``,
        ``metric``, ``difference``, the bounds ``low`` and ``high`` of its 95 % percentile confidence interval
        (fractions), and the two-sided ``p_value``, corrected for the number of methods (Holm).

    Raises:
        InputError: There are fewer than two methods, or they were not measured on the same frames and labels.
    """
    from pandas import DataFrame

    if len(tables) < 2:
        raise InputError(f"expected at least two methods to compare, found {', '.join(tables) or 'none'}; add results")
    first, *others = tables
    found = {name: paired_bootstrap(tables[name], tables[first], replicates=replicates) for name in others}
    metrics = list(next(iter(found.values())))[:SHOWN]
    p_values = {metric: holm({name: found[name][metric].p_value for name in others}) for metric in metrics}
    rows: list[dict[str, Any]] = [
        {
            "method": name,
            "minus": first,
            "metric": metric,
            "difference": found[name][metric].difference,
            "low": found[name][metric].interval.low,
            "high": found[name][metric].interval.high,
            "p_value": p_values[metric][name],
        }
        for name in others
        for metric in metrics
    ]
    return DataFrame(rows)
