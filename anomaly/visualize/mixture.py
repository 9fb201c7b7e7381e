"""The mixtures of all classes in two dimensions, as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from anomaly.errors import InputError
from anomaly.visualize.palette import hexadecimal
from anomaly.visualize.prediction import class_palette

Array = npt.NDArray[np.floating]


def mixture_figure(
    means: Array, stds: Array, shares: Array, classes: Sequence[str], features: Array | None = None
) -> Figure:
    r"""Draw all components in a plane, and the share of each in the pixels of its class.

    The plane is spanned by the first two principal components of the means. Each component is drawn as its mean and
    the ellipse of one standard deviation. A diagonal Gaussian with standard deviations :math:`\sigma_d`, projected by
    orthonormal :math:`v_1, v_2`, has the covariance :math:`\sum_d \sigma_d^2 v_{id} v_{jd}`.

    Args:
        means: Means of the components. Shape ``(C, P, D)``, D at least 2.
        stds: Standard deviations of the components. Shape ``(C, P, D)``.
        shares: Share of each component in its class, 0 to 1. Shape ``(C, P)``.
        classes: Names of the C classes.
        features: Embeddings to draw as dots; ``None`` for none. Shape ``(N, D)``.

    Raises:
        InputError: The shapes do not match.
    """
    means, stds, shares = np.asarray(means), np.asarray(stds), np.asarray(shares)
    count, parts, dim = means.shape if means.ndim == 3 else (0, 0, 0)
    if stds.shape != means.shape or shares.shape != (count, parts) or len(classes) != count or dim < 2:
        raise InputError(
            f"mixture: expected means and deviations (C, P, D), D >= 2, shares (C, P), C names, found {means.shape}, "
            f"{stds.shape}, {shares.shape} and {len(classes)} names; correct the shapes"
        )
    centre = means.reshape(-1, dim).mean(0)
    plane = np.linalg.svd(means.reshape(-1, dim) - centre, full_matrices=True)[2][:2]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axis, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    if features is not None:
        axis.scatter(*((features - centre) @ plane.T).T, s=2, color="0.75", lw=0)
    colours = [hexadecimal(colour) for colour in class_palette(count)]
    for k, name in enumerate(classes):
        places = (means[k] - centre) @ plane.T
        axis.scatter(*places.T, s=18, color=colours[k], label=name, zorder=3)
        for place, std in zip(places, stds[k], strict=True):
            axis.add_patch(_ellipse(place, plane * std, colours[k]))
    axis.set(title="means and one standard deviation, principal plane", xticks=[], yticks=[], aspect="equal")
    axis.legend(fontsize="x-small", ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    left = np.zeros(count)
    for p in range(parts):
        bars.barh(list(classes), shares[:, p], left=left, color=colours, edgecolor="white")
        left = left + shares[:, p]
    bars.set(title="share of each component", xlim=(0, 1))
    bars.invert_yaxis()
    return figure


def _ellipse(place: Array, spread: Array, colour: str) -> Ellipse:
    """Draw one standard deviation around a point; ``spread (2, D)`` is the plane's directions times the deviations."""
    values, vectors = np.linalg.eigh(spread @ spread.T)
    width, height = 2 * np.sqrt(values[::-1])
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    return Ellipse((place[0], place[1]), width, height, angle=angle, fc=colour, ec=colour, alpha=0.25)
