"""Correct and wrong decisions at a threshold, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, Image, Label, ScoreMap
from anomaly.visualize.arrays import as_label, as_score_map
from anomaly.visualize.palette import BLUE, INK, PAPER, RGB, VERMILION, YELLOW


@dataclass(frozen=True)
class ErrorMap:
    """Colours detected anomalies, false alarms and missed anomalies at a threshold.

    Pixels with ``score >= threshold`` are flagged as anomalous. The colours are those of the report.

    Args:
        threshold: The threshold.
    """

    threshold: float
    colours: ClassVar[dict[str, RGB]] = {
        "found anomaly": YELLOW,
        "false alarm": VERMILION,
        "missed anomaly": BLUE,
        "known": INK,
        "ignored": PAPER,
    }

    def draw(self, score: ScoreMap, label: Label) -> Image:
        """Colour each pixel by its label and its decision.

        Args:
            score: Score map. Shape ``(H, W)``.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape ``(H, W)``.

        Returns:
            RGB image. Shape ``(H, W, 3)``, uint8.

        Raises:
            InputError: The sizes differ, a score is not finite, or a label has another value.
        """
        score, label = as_score_map(score, "error map"), as_label(label, "error map")
        if score.shape != label.shape:
            raise InputError(
                f"error map: expected score and label of one size, found {score.shape} and {label.shape}; resize one"
            )
        flagged, anomaly = score >= self.threshold, label == ANOMALY
        kinds = np.where(anomaly, np.where(flagged, 0, 2), np.where(flagged, 1, 3))
        kinds[label == IGNORE] = 4
        return np.array(list(self.colours.values()), np.uint8)[kinds]
