"""Pooled pixel metrics of one score on one set: every pixel counts once, nothing is binned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.labels import ANOMALY, IGNORE, KNOWN, Label, check_label, check_score
from anomaly.metrics.functional.curve import Scores, operating_points
from anomaly.metrics.functional.ranking import auroc, average_precision, check_tpr, fpr_at_tpr


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics pooled over all frames. Anomaly is the positive class.

    Args:
        auroc: Area under the ROC curve, ties counting half; a fraction, NaN where undefined.
        ap: Average precision, step sum; a fraction, NaN where undefined.
        fpr95: FPR at the first threshold with TPR >= 0.95 (or the metric's own ``tpr``); a fraction, lower is
            better, NaN where undefined.
        frames: Number of distinct frames.
        known_pixels: Number of pixels labelled ``KNOWN``.
        anomaly_pixels: Number of pixels labelled ``ANOMALY``.
        ignored_pixels: Number of pixels left out.
        frames_without_anomaly: Number of frames without one ``ANOMALY`` pixel; their known pixels count.
    """

    auroc: float
    ap: float
    fpr95: float
    frames: int
    known_pixels: int
    anomaly_pixels: int
    ignored_pixels: int
    frames_without_anomaly: int


class _FrameScores(NamedTuple):
    known: Scores  # (N,)
    anomaly: Scores  # (P,)
    ignored: int


class PixelMetrics:
    """Exact AUROC, average precision and FPR at TPR over all pixels of the frames seen.

    Keeps each frame's scores (4 bytes a pixel for float32) in the type they came in, and no labels. ``merge``
    is associative and commutative: one process and many give the same result. A frame counts once however
    often its id is seen, as it happens with a padded distributed sampler; the scores seen first are kept.

    Args:
        name: Name of the score, for error messages.
        tpr: True-positive rate at which the false-positive rate is taken, ``0 < tpr <= 1``.

    Raises:
        InputError: ``tpr`` is out of range.

    Examples:
        >>> metrics = PixelMetrics("msp")
        >>> metrics.update("a", np.float32([[0.1, 0.2], [0.9, 0.5]]), np.uint8([[0, 0], [1, 255]]))
        >>> metrics.compute().auroc
        1.0
    """

    def __init__(self, name: str = "score", tpr: float = 0.95) -> None:
        check_tpr(tpr)
        self.name = name
        self.tpr = tpr
        self._frames: dict[str, _FrameScores] = {}

    def update(self, frame_id: str, score: npt.NDArray[np.floating], label: Label) -> None:
        """Add one frame; do nothing if its id was seen before.

        Args:
            frame_id: Name of the frame, unique in its set.
            score: Higher = more anomalous, every value finite.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel.

        Shape:
            score and label ``(H, W)``; frames may differ in size.

        Raises:
            InputError: The shapes differ, a score is NaN or infinite, or a label has another value.
        """
        if frame_id in self._frames:
            return
        check_score(frame_id, self.name, score, label.shape)
        frame = _FrameScores(score[label == KNOWN], score[label == ANOMALY], int((label == IGNORE).sum()))
        if frame.known.size + frame.anomaly.size + frame.ignored != label.size:
            check_label(frame_id, label)
        self._frames[frame_id] = frame

    def merge(self, other: PixelMetrics) -> None:
        """Take over the frames of ``other``, which stays as it is.

        Raises:
            InputError: ``other`` measures another score or at another ``tpr``.
        """
        if (self.name, self.tpr) != (other.name, other.tpr):
            raise InputError(
                f"cannot merge metrics of score {other.name!r} at TPR {other.tpr} into those of score "
                f"{self.name!r} at TPR {self.tpr}; merge only parts of the same evaluation"
            )
        self._frames = {**other._frames, **self._frames}

    def compute(self) -> PixelResult:
        """Pool all frames and measure them; ``update`` and ``merge`` may go on afterwards.

        Needs as much memory again as the scores kept.

        Warns:
            UndefinedMetricWarning: There is no known or no anomaly pixel; the metrics are NaN.
        """
        frames = self._frames.values()
        points = operating_points(
            _sorted([frame.known for frame in frames]), _sorted([frame.anomaly for frame in frames])
        )
        return PixelResult(
            auroc=auroc(points),
            ap=average_precision(points),
            fpr95=fpr_at_tpr(points, self.tpr),
            frames=len(frames),
            known_pixels=points.num_known,
            anomaly_pixels=points.num_anomaly,
            ignored_pixels=sum(frame.ignored for frame in frames),
            frames_without_anomaly=sum(frame.anomaly.size == 0 for frame in frames),
        )

    def reset(self) -> None:
        """Forget all frames."""
        self._frames = {}


def _sorted(parts: list[Scores]) -> Scores:
    scores = np.concatenate(parts) if parts else np.empty(0, np.float32)
    scores.sort()
    return scores
