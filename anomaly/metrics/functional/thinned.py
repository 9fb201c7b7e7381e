"""A curve with as many points as a plot needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly.metrics.functional.curve import OperatingPoints

TOLERANCE = 2e-3


@dataclass(frozen=True)
class Curve:
    """Points of a ROC and a precision-recall curve, from the highest threshold down; recall is ``tpr``.

    For every operating point left out there is one in here, the last before it, from which it differs by less than
    ``tolerance`` in each of ``tpr``, ``fpr`` and ``precision``. The first and the last operating point are kept. ROC
    curves start at (0, 0) and end at (1, 1), which are no operating points and not in here. All empty where there is
    no known or no anomaly pixel.

    Args:
        thresholds: Scores; a pixel is called anomalous when its score is at least that.
        tpr: True-positive rates, fractions.
        fpr: False-positive rates, fractions.
        precision: Fractions.
        tolerance: See above.
    """

    thresholds: tuple[float, ...]
    tpr: tuple[float, ...]
    fpr: tuple[float, ...]
    precision: tuple[float, ...]
    tolerance: float = TOLERANCE


class ThinnedCurve:
    """Takes a curve in parts and keeps what a plot needs; see :class:`Curve`."""

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._kept: list[np.ndarray] = []  # (K, 4): threshold, tpr, fpr, precision
        self._cell = np.full(3, -1)
        self._last = np.empty((0, 4))

    def add(self, part: OperatingPoints) -> None:
        """Take the next part."""
        if not part.tp.size or not part.num_known:
            return
        rates = np.stack([part.tp / part.num_anomaly, part.fp / part.num_known, part.tp / (part.tp + part.fp)], 1)
        cells = np.floor(rates / self._tolerance).astype(np.int64)
        new = (np.diff(cells, axis=0, prepend=self._cell[None]) != 0).any(1)
        self._cell = cells[-1]
        points = np.column_stack([part.thresholds.astype(np.float64), rates])
        self._kept.append(points[new])
        self._last = points[-1:] if not new[-1] else points[:0]

    def value(self) -> float:
        """The number of points kept."""
        return float(sum(len(points) for points in self._kept))

    def curve(self) -> Curve:
        """The points kept, and the last one."""
        points = np.concatenate([np.empty((0, 4)), *self._kept, self._last])
        thresholds, tpr, fpr, precision = (tuple(column) for column in points.T.tolist())
        return Curve(thresholds, tpr, fpr, precision, self._tolerance)
