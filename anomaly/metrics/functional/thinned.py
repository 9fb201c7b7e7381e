"""A curve reduced to the points that a plot needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anomaly.metrics.functional.curve import OperatingPoints

TOLERANCE = 2e-3


@dataclass(frozen=True)
class Curve:
    """Points of a ROC curve and a precision-recall curve, from the highest threshold down.

    The first and the last operating point are kept. Every point left out differs from the last kept point before it by
    less than ``tolerance`` in ``tpr``, ``fpr`` and ``precision``. The ends (0, 0) and (1, 1) of a ROC curve are not
    operating points and are not included. All fields are empty if there is no known or no anomaly pixel.

    Args:
        thresholds: Scores; pixels with ``score >= threshold`` are flagged as anomalous.
        tpr: True-positive rates (recall), fractions.
        fpr: False-positive rates, fractions.
        precision: Precisions, fractions.
        tolerance: Largest difference between a point left out and the kept point that represents it.
    """

    thresholds: tuple[float, ...]
    tpr: tuple[float, ...]
    fpr: tuple[float, ...]
    precision: tuple[float, ...]
    tolerance: float = TOLERANCE


class ThinnedCurve:
    """Reduces a curve, given in parts, to a :class:`Curve` for a plot.

    Args:
        tolerance: Largest difference between a point left out and the kept point that represents it.
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._kept: list[np.ndarray] = []  # (K, 4): threshold, tpr, fpr, precision
        self._cell = np.full(3, -1.0)
        self._last = np.empty((0, 4))

    def add(self, part: OperatingPoints) -> None:
        """Add the next part, whose thresholds are below those of all earlier parts."""
        if not part.tp.size or not part.num_known:
            return
        rates = [part.tp / part.num_anomaly, part.fp / part.num_known, part.tp / (part.tp + part.fp)]
        new = np.zeros(part.tp.size, bool)
        for at, rate in enumerate(rates):
            cells = np.floor(rate / self._tolerance)
            new[0] |= cells[0] != self._cell[at]
            new[1:] |= cells[1:] != cells[:-1]
            self._cell[at] = cells[-1]

        def points(which: Any) -> np.ndarray:
            columns = [part.thresholds[which].astype(np.float64), *(rate[which] for rate in rates)]
            return np.column_stack(columns)

        self._kept.append(points(new))
        self._last = points(slice(-1, None) if not new[-1] else slice(0))

    def value(self) -> float:
        """Return the number of points kept so far."""
        return float(sum(len(points) for points in self._kept))

    def curve(self) -> Curve:
        """Return the points kept, and the last point of the curve."""
        points = np.concatenate([np.empty((0, 4)), *self._kept, self._last])
        thresholds, tpr, fpr, precision = (tuple(column) for column in points.T.tolist())
        return Curve(thresholds, tpr, fpr, precision, self._tolerance)
