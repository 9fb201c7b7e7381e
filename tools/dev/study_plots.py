"""Plots of a study, from the record that ``tools/dev/study.py`` writes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from anomaly.visualize.palette import BLUE, ORANGE, hexadecimal
from study_tables import Record


def metrics_plot(study: Record, rows: Sequence[tuple[str, str]]) -> Figure:
    """Plot AP against FPR95 for networks and scores on every dataset, with a dot for each seed."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(1, len(study["sets"]))
    for axis, name in zip(axes, study["sets"], strict=True):
        for place, (network, score) in enumerate(rows):
            found = [seed["sets"][name][score] for seed in study["networks"][network]]
            x, y = ([100 * one[part] for one in found] for part in ("fpr95", "ap"))
            axis.scatter(x, y, color=f"C{place}", marker="os^D"[place % 4], label=f"{network} {score}", alpha=0.8)
        axis.set(title=name, xlabel="FPR95, % (lower is better)", ylabel="AP, % (higher is better)")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure


def likelihoods_plot(study: Record) -> Figure:
    """Plot the distributions of the likelihood score over known and anomalous pixels, by dataset and network."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, len(study["sets"]))
    for axis, one in zip(axes.T.flat, study["histograms"], strict=True):
        for kind, colour in (("known", BLUE), ("anomalous", ORANGE)):
            axis.stairs(one[kind], one["edges"], fill=True, alpha=0.6, color=hexadecimal(colour), label=kind)
        axis.set(title=f"{one['set']}, {one['network']}", xlabel="gmm_nll", ylabel="fraction of pixels")
    axes[0, 0].legend()
    return figure
