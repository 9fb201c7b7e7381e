"""ROC and precision-recall curves as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomaly.errors import InputError
from anomaly.metrics.functional.thinned import Curve
from anomaly.metrics.pixel import PixelResult
from anomaly.visualize.palette import series


def roc_figure(results: Mapping[str, PixelResult]) -> Figure:
    """Draw the ROC curve of each score, with its AUROC and the point of FPR95.

    Args:
        results: Results by the name that the legend shows.

    Raises:
        InputError: ``results`` is empty.
    """
    figure, axis = _axis(results, "false-positive rate", "true-positive rate")
    for (name, result), colour in zip(results.items(), series(len(results)), strict=True):
        curve: Curve = result.curve
        axis.plot([0, *curve.fpr, 1], [0, *curve.tpr, 1], color=colour, label=f"{name}: AUROC {result['auroc']:.1%}")
        axis.plot(result["fpr95"], 0.95, "o", color=colour, ms=5)
    axis.axhline(0.95, color="0.5", lw=0.8, ls=":", label="TPR of FPR95")
    axis.legend(loc="lower right", fontsize="small")
    return figure


def precision_recall_figure(results: Mapping[str, PixelResult]) -> Figure:
    """Draw the precision-recall curve of each score, with its average precision and the precision of chance.

    Args:
        results: Results on one dataset, by the name that the legend shows.

    Raises:
        InputError: ``results`` is empty.
    """
    figure, axis = _axis(results, "recall", "precision")
    for (name, result), colour in zip(results.items(), series(len(results)), strict=True):
        axis.plot(result.curve.tpr, result.curve.precision, color=colour, label=f"{name}: AP {result['ap']:.1%}")
    for share in {result.anomaly_pixels / (result.anomaly_pixels + result.known_pixels) for result in results.values()}:
        axis.axhline(share, color="0.5", lw=0.8, ls=":", label=f"chance: {share:.1%}")
    axis.legend(loc="upper right", fontsize="small")
    return figure


def _axis(results: Mapping[str, PixelResult], x: str, y: str) -> tuple[Figure, Axes]:
    if not results:
        raise InputError("curves: expected at least one result, found none; pass results by name")
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axis = figure.add_subplot()
    axis.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.01))
    axis.grid(alpha=0.3)
    return figure, axis
