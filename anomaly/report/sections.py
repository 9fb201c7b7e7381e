"""Sections of the page above the images: tables and charts for the template."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from anomaly.metrics.definitions import title_of
from anomaly.metrics.score_curves import LEAST_FPR, ScoreCurves
from anomaly.report.charts import Axis, Dot, Series, bar, even_ticks, histogram, line_chart, ranked_chart
from anomaly.report.joined import JoinedDataset, JoinedScore, Run
from anomaly.report.table import FURTHER as COLUMNS
from anomaly.report.table import HEADLINE
from anomaly.results.records import ScoreResult

FURTHER = tuple(column for column in COLUMNS if column.part != "at_threshold")  # they have their own table
RANK = "ap"  # metric by which images are sorted
_PERCENT = "{:.0%}".format
_SHARE = (0, 0.2, 0.4, 0.6, 0.8, 1)
_RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1)


_Column = list[tuple[float | None, Sequence[float] | None]]


class Value(NamedTuple):
    """A value in a table.

    Args:
        text: The value as text.
        ends: Its confidence interval as text; empty without one.
        bar: Its bar.
        best: Whether it is the best of its column.
    """

    text: str
    ends: str
    bar: Markup
    best: bool


class Row(NamedTuple):
    """A row of a table: names, then values."""

    names: Sequence[str]
    style: int
    values: Sequence[Value]


class Table(NamedTuple):
    """A table: titles of its columns of names and of values, and its rows in groups with headings."""

    names: Sequence[str]
    titles: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Row]]]


def summary(datasets: Sequence[JoinedDataset]) -> Table:
    """All datasets and methods: main pixel metrics, component and open-world metrics, closed-set mIoU."""
    every = [method.result for each in datasets for method in each.methods]
    further = [one for one in FURTHER if any(one.name in getattr(result, one.part) for result in every)]
    closed = any(run.result.closed_set is not None for each in datasets for run in each.runs)
    names = list(dict.fromkeys(name for result in every for name in result.values if HEADLINE.fullmatch(name)))
    named = [title_of(name) for name in names] + [(one.title, one.better) for one in further]
    named += [("closed-set mIoU", None)] * closed
    groups = []
    for one in datasets:
        results = [method.result for method in one.methods]
        columns: list[_Column] = [
            [(r.values.get(name), r.confidence_intervals.get(name)) for r in results] for name in names
        ]
        columns += [[(getattr(r, column.part).get(column.name), None) for r in results] for column in further]
        if closed:
            columns.append([(_closed(one.runs[m.run]), None) for m in one.methods])
        cells = [_column(column, better) for column, (_, better) in zip(columns, named, strict=True)]
        lines = zip(one.methods, zip(*cells, strict=True), strict=True)
        rows = [Row((method.label,), i, values) for i, (method, values) in enumerate(lines)]
        groups.append((f"{one.name}, {one.entry.frames} images", rows))
    headings = [title + ("" if better is None else " ↑" if better is max else " ↓") for title, better in named]
    return Table(("score",), headings, groups)


def by_class(runs: Sequence[Run], datasets: Sequence[JoinedDataset]) -> Table | None:
    """IoU of each class: on the closed set, and at a threshold from another dataset if labels have classes."""
    columns: list[tuple[str, Mapping[str, float]]] = []
    for run in runs:
        if run.result.closed_set is not None:
            closed = run.result.closed_set
            title = f"{run.letter} closed set ({closed.dataset.rpartition('.')[2]}, {closed.frames} images)"
            columns.append((title.strip(), closed.class_iou))
    for one in datasets:
        for method in one.methods:
            if method.curves.open_iou:
                columns.append((f"{one.name}, closed, {method.label}", method.curves.closed_iou))
                columns.append((f"{one.name}, open world, {method.label}", method.curves.open_iou))
    if not columns:
        return None
    names = dict.fromkeys(name for _, values in columns for name in values)
    rows = [Row((n,), 0, [_value(values.get(n)) for _, values in columns]) for n in names]
    means = [_value(_mean([v for v in values.values() if not math.isnan(v)])) for _, values in columns]
    return Table(("class",), [title for title, _ in columns], [("", rows), ("", [Row(("mean",), 0, means)])])


def carried(one: JoinedDataset) -> Table | None:
    """Metrics of a dataset at thresholds that were chosen on another dataset; None without thresholds."""
    names = ("tpr", "fpr", "precision", "f1", "iou")
    methods = [method for method in one.methods if method.result.at_threshold]
    if not methods:
        return None
    rows = []
    for method in methods:
        chosen = one.runs[method.run].result.settings.get("threshold") or {}
        level = f"={chosen['level']:g}" if isinstance(chosen.get("level"), float) else ""
        rule = f"{chosen.get('rule', '?')}{level} on {chosen.get('dataset', '?')}"
        at = method.result.at_threshold
        values = [_value(at.get(name)) for name in names]
        rows.append(Row((method.label, rule, f"{at['threshold']:.5g}"), one.methods.index(method), values))
    return Table(("score", "chosen by", "threshold"), ("TPR", "FPR", "precision", "F1", "IoU"), [("", rows)])


def share_images(one: JoinedDataset, other: JoinedDataset) -> bool:
    """Whether two datasets have images in common, so that no threshold may be transferred between them."""
    return not set(one.entry.images.values()).isdisjoint(other.entry.images.values())


def charts(one: JoinedDataset, number: int, others: Sequence[JoinedDataset]) -> Iterator[tuple[str, Markup, str]]:
    """The charts of a dataset: heading, chart, and a note on how to read it."""
    across = Axis("false-positive rate", ticks=_SHARE, text=_PERCENT)
    up = Axis("true-positive rate", ticks=_SHARE, text=_PERCENT)
    rocs = [_roc(i, method) for i, method in enumerate(one.methods)]
    bands = one.methods[0].curves.bands
    draws = f"Shaded: pointwise 95 % confidence bands from {bands['replicates']:.0f} bootstrap draws of images."
    note = draws if math.isfinite(bands["tpr_low"][0]) else "No confidence bands: they need more than one image."
    yield "ROC", line_chart(_told("ROC curves", one, "auroc"), across, up, rocs, diagonal=True), note
    recall, precision = Axis("recall", text=_PERCENT), Axis("precision", text=_PERCENT)
    precisions = [_precision(i, method) for i, method in enumerate(one.methods)]
    yield (
        "Precision-recall",
        line_chart(_told("Precision-recall curves", one, "ap"), recall, precision, precisions),
        f"{_share(one.methods[0].result)} of the pixels are anomalous; a random score has that precision.",
    )
    yield "AP of each image", *_frames(one, number)
    for method in one.methods:
        curves = method.curves
        ends = Axis("score", curves.edges[0], curves.edges[-1], even_ticks(curves.edges[0], curves.edges[-1]))
        title = f"Histograms of {method.label} on {one.name}, of known and of anomalous pixels"
        chart = histogram(title, ends, curves.edges, curves.known, curves.anomaly)
        yield (
            f"Distribution of {method.label}",
            chart,
            "Each sums to 100 %. The outermost bins include values beyond the axis.",
        )
    for other in others:
        if (carried_chart := _carried_chart(one, other)) is not None:
            yield (
                f"Thresholds from {other.name}",
                carried_chart,
                f"FPR here at thresholds that have a given FPR on {other.name}. On the dotted line both are equal. "
                "Interpolated linearly between 250 thresholds.",
            )


def _roc(style: int, method: JoinedScore) -> Series:
    curves, bands = method.curves, method.curves.bands
    return Series(
        label=method.label,
        style=style,
        x=(0.0, *curves.fpr, 1.0),
        y=(0.0, *curves.tpr, 1.0),
        low=bands["tpr_low"],
        high=bands["tpr_high"],
        band_x=bands["fpr"],
    )


def _precision(style: int, method: JoinedScore) -> Series:
    curves, bands = method.curves, method.curves.bands
    return Series(
        label=method.label,
        style=style,
        x=curves.tpr,
        y=curves.precision,
        low=bands["precision_low"],
        high=bands["precision_high"],
        band_x=bands["recall"],
    )


def _frames(one: JoinedDataset, number: int) -> tuple[Markup, str]:
    """AP of each image, sorted. Images that the page shows are points that link to them."""
    shown = {frame: i for i, (frame, _) in enumerate(one.frames)}
    lines, most = [], 0
    for style, method in enumerate(one.methods):
        every = {frame: values.get(RANK, math.nan) for frame, values in method.result.per_frame.items()}
        found = dict(sorted(((f, v) for f, v in every.items() if not math.isnan(v)), key=lambda pair: pair[1]))
        ranked = list(found)
        dots = [Dot(i, frame, f"#s{number}f{shown[frame]}") for i, frame in enumerate(ranked) if frame in shown]
        series = Series(method.label, style, range(len(ranked)), [found[frame] for frame in ranked])
        lines.append((series, dots))
        most = max(most, len(ranked))
    title = f"AP of each image of {one.name}, sorted"
    chart = ranked_chart(title, Axis("AP of the image", text=_PERCENT), lines, most)
    left = f", {most - len(shown)} of them not on this page" if most > len(shown) else ""
    return chart, f"{most} images with known and anomalous pixels{left}. Each point links to its image."


def _carried_chart(one: JoinedDataset, other: JoinedDataset) -> Markup | None:
    """False-positive rate on this dataset against the rate on another dataset, at the same thresholds."""
    series = []
    for style, method in enumerate(one.methods):
        run = one.runs[method.run]
        twin = next((m for m in other.methods if other.runs[m.run] is run and m.place == method.place), None)
        if twin is not None:
            here = np.interp(twin.curves.levels, method.curves.levels, method.curves.level_fpr)
            series.append(Series(method.label, style, twin.curves.level_fpr, here.tolist()))
    if not series:
        return None
    across = Axis(f"FPR on {other.name}", LEAST_FPR, 1, _RATES, log=True, text=_rate)
    up = Axis(f"FPR on {one.name}", LEAST_FPR, 1, _RATES, log=True, text=_rate)
    return line_chart(f"FPR on {one.name} of thresholds from {other.name}", across, up, series, diagonal=True)


def _rate(value: float) -> str:
    return f"{100 * value:g} %"


def _told(words: str, one: JoinedDataset, metric: str) -> str:
    title = title_of(metric)[0]
    found = [f"{m.label} {title} {_percent(m.result.values.get(metric, math.nan))}" for m in one.methods]
    return f"{words} on {one.name}: {', '.join(found)}"


def _share(score: ScoreResult) -> str:
    return f"{100 * score.anomaly_pixels / max(1, score.anomaly_pixels + score.known_pixels):.2g} %"


def _column(values: _Column, better: Any) -> list[Value]:
    defined = [value for value, _ in values if value is not None and not math.isnan(value)]
    top = better(defined) if better and len(defined) > 1 else math.nan
    return [_value(value, ends, best=value == top) for value, ends in values]


def _value(value: float | None, ends: Sequence[float] | None = None, *, best: bool = False) -> Value:
    if value is None or math.isnan(value):
        return Value("-" if value is None else "nan", "", Markup(""), False)
    if ends is None or any(math.isnan(end) for end in ends):
        return Value(_percent(value), "", bar(value), best)
    low, high = ends
    return Value(f"{100 * value:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]", bar(value, low, high), best)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _closed(run: Run) -> float | None:
    return None if run.result.closed_set is None else run.result.closed_set.miou


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def limits(curves: ScoreCurves) -> tuple[float, float]:
    """Lower and upper end of the heatmaps' colour scale."""
    return curves.edges[0], curves.edges[-1]
