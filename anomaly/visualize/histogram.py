"""Histograms of the scores of known and anomalous pixels, as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, KNOWN, Label, ScoreMap
from anomaly.visualize.arrays import as_label, as_score
from anomaly.visualize.palette import BLUE, ORANGE, hexadecimal

BINS = 80


def histogram_figure(scores: Mapping[str, ScoreMap], label: Label, threshold: float | None = None) -> Figure:
    """Draw the distributions of the scores of known and anomalous pixels as densities, one plot for each score.

    The plot covers the range from the 0.1st to the 99.9th percentile; values outside count at its ends.

    Args:
        scores: Score maps by name. Shape ``(H, W)``, or any shape of ``label``.
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape as the scores.
        threshold: A score to mark; ``None`` for no mark.

    Raises:
        InputError: ``scores`` is empty, a score is not finite or has another shape than the label, or there is no known
            or no anomalous pixel.
    """
    if not scores:
        raise InputError("histogram: expected at least one score, found none; pass scores by name")
    label = as_label(label, "histogram")
    figure = Figure(figsize=(5 * len(scores), 3.2), layout="constrained")
    for axis, (name, score) in zip(np.atleast_1d(figure.subplots(1, len(scores))), scores.items(), strict=True):
        score = as_score(score, name)
        if score.shape != label.shape:
            raise InputError(
                f"{name}: expected a score of the label's shape {label.shape}, found {score.shape}; resize one of them"
            )
        parts = {"known": (score[label == KNOWN], BLUE), "anomalous": (score[label == ANOMALY], ORANGE)}
        if empty := [word for word, (values, _) in parts.items() if not values.size]:
            raise InputError(
                f"{name}: expected known and anomalous pixels, found not one {empty[0]} pixel; use a frame with both"
            )
        low, high = np.percentile(np.concatenate([values for values, _ in parts.values()]), (0.1, 99.9))
        for word, (values, colour) in parts.items():
            shown = np.clip(values, low, high)
            axis.hist(
                shown,
                BINS,
                (low, high if high > low else low + 1),
                density=True,
                alpha=0.6,
                label=word,
                color=hexadecimal(colour),
            )
        if threshold is not None:
            axis.axvline(threshold, color="0.2", lw=1, ls="--", label="threshold")
        axis.set(title=name, xlabel="score (higher = more anomalous)", ylabel="density", yscale="log")
        axis.legend(fontsize="small")
    return figure
