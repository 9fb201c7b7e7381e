"""The catalogue, and what was found in a set, as text."""

from __future__ import annotations

from anomaly.datasets.catalog import SETS
from anomaly.datasets.check import SetReport
from anomaly.datasets.dataset import Dataset

_MEANING = {0: "known", 1: "anomaly", 255: "ignored"}


def catalogue_text() -> str:
    """A line for each set: name, frames (``?`` where not confirmed), labels, how to get it, title."""
    lines = [f"{'name':<34}{'frames':>6}  {'labels':<10}{'get it':<9} set"]
    for one in SETS.values():
        labels = "hidden" if one.hidden else "anomalies" if one.anomalies else "classes"
        how = "download" if one.downloads else "generate" if one.obtain else "by hand"
        lines.append(f"{one.name:<34}{one.frames or '?':>6}  {labels:<10}{how:<9} {one.title}")
    return "\n".join(lines)


def report_text(split: Dataset, report: SetReport, title: str) -> str:
    """What :func:`anomaly.datasets.check.check_dataset` found, as lines; faults last."""
    frames = f"{report.frames}" + ("" if split.published is None else f" ({split.published} published)")
    sizes = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sorted(report.sizes.items()))
    total = max(1, sum(report.values.values()))
    values = [
        f"  {value:>3} {_MEANING[split.encoding[value]]:<8} {count:>14,} {100 * count / total:7.3f} %"
        for value, count in report.values.items()
    ]
    lines = [f"{split.name}: {title}", f"folder       {split.root}", f"layout       {split.layout}"]
    lines += [f"frames       {frames}", f"sizes        {sizes or '-'}", "label values, their meaning, pixels", *values]
    if report.anomaly:
        lines.append(
            f"anomaly      {100 * report.share:.2f} % of all pixels, "
            f"{100 * report.smallest_share:.2f} % to {100 * report.largest_share:.2f} % of a frame's"
        )
    if report.without_anomaly:
        names = ", ".join(report.without_anomaly[:3]) + (", ..." if len(report.without_anomaly) > 3 else "")
        lines.append(f"             {len(report.without_anomaly)} frames have none: {names}")
    lines.append(f"fingerprint  {report.fingerprint}")
    lines += [f"note         {note}: read as it is, and told beside every figure" for note in report.notes]
    lines.append(f"faults       {len(report.faults) or 'none'}")
    return "\n".join([*lines, *(f"  - {fault}" for fault in report.faults)])
