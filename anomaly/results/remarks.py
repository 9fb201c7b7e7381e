"""Remarks on the values of a score that a reader must know: it is constant, or it seems reversed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anomaly.frames import IGNORE
from anomaly.metrics import on_device
from anomaly.utils import devices

REVERSED_BELOW = 0.4
"""AUROC below which a score seems to be reversed."""


ROUNDING = 4 * 2.0**-23
"""Relative difference that counts as rounding: four steps of a float32."""


class SeenValues:
    """The smallest and the largest value of a score, over a dataset and in each frame."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[float, float]] = {}

    def add(self, frame_id: str, score: Any, label: Any) -> None:
        """Add the range of a frame's counted pixels.

        Args:
            frame_id: Name of the frame.
            score: Its score map, an array, or a tensor on a GPU. Shape: ``(H, W)``.
            label: Its label map, an array, or where the score is, as :func:`anomaly.metrics.on_device.ends` takes it.
                Shape: ``(H, W)``.
        """
        found: tuple[float, float] | None
        if devices.on_device(score):
            found = on_device.ends(score, label)
        else:
            counted = score[label != IGNORE]
            found = (float(counted.min()), float(counted.max())) if counted.size else None
        if found is not None:
            self._ends[frame_id] = found

    def merge(self, other: SeenValues) -> None:
        """Add the frames of ``other``, which does not change; frames that are in both keep their range here."""
        self._ends = {**other._ends, **self._ends}

    def remarks(self, auroc: float) -> list[str]:
        """Return the remarks, one sentence each. Records hold these sentences, and verification compares them.

        Args:
            auroc: AUROC over all pixels, as a fraction; NaN if undefined.
        """
        if not self._ends:
            return []
        low, high = min(low for low, _ in self._ends.values()), max(high for _, high in self._ends.values())
        if _equal(low, high):
            return [f"all values are equal ({low:g}), so this score tells no pixel from another"]
        found = []
        constant = sorted(frame for frame, (least, most) in self._ends.items() if _equal(least, most))
        if constant:
            found.append(
                f"in {len(constant)} of {len(self._ends)} frames, such as {constant[0]!r}, all values are equal; was "
                "their score computed?"
            )
        if auroc < REVERSED_BELOW:
            found.append(
                f"AUROC is {100 * auroc:.1f} %, far below one half: is the sign reversed? A higher score has to mean "
                "more anomalous"
            )
        return found


def _equal(least: float, most: float) -> bool:
    """Whether two values are equal up to the rounding of a resize in float32."""
    return most - least <= ROUNDING * max(abs(least), abs(most))


def unlabelled_classes(measure: str, classes: Sequence[str]) -> list[str]:
    """Name the classes without a labelled pixel, in a sentence; empty if there are none.

    Args:
        measure: The metric that the sentence is about.
        classes: Names of these classes.
    """
    if not classes:
        return []
    return [
        f"{measure}: no pixel is labelled {', '.join(classes)}; such a class has an IoU of 0 where it is predicted, "
        "which lowers the mean, and none elsewhere"
    ]
