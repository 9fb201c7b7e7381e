"""Open-world IoU: what a network's segmentation is worth where anomalies occur."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, KNOWN, Label, as_array, as_frame_id, as_score
from anomaly.metrics.calibration import Threshold
from anomaly.metrics.functional.curve import Counts
from anomaly.metrics.functional.open_iou import closed_confusion, count_decisions, iou, open_confusion
from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.merging import check_same_settings
from anomaly.metrics.repeats import FrameKey, FrameKeys, count_label
from anomaly.utils.given import real, text

ClassMap = npt.NDArray[np.integer]


@dataclass(frozen=True)
class OpenIoUResult:
    """What a segmentation is worth with and without anomalies.

    ``result["gap"]`` is short for ``result.values["gap"]``.

    Args:
        values: By name, fractions, NaN where undefined: ``closed_miou`` (mean over known classes, on known pixels
            alone, nothing called anomalous), ``open_miou`` (mean over the same classes with anomalies as a further
            class), ``gap`` (their difference), and of the anomaly class ``anomaly_iou``, ``anomaly_precision``,
            ``tpr`` and ``fpr`` at the threshold. A class in neither labels nor decisions is in no mean.
        closed_iou: By class.
        open_iou: By class.
        threshold: Pixels with ``score >= threshold`` were called anomalous.
        threshold_from: The split that it was chosen on; empty where only a number was given.
        confusion: All pixels by class and decision, anomaly the last of both; rows are the truth. ``(C + 1, C + 1)``.
        frames: Number of distinct frames.
        unlabelled: Classes of which no pixel is labelled; where they are predicted their IoU is 0, which lowers means.
    """

    values: dict[str, float]
    closed_iou: dict[str, float]
    open_iou: dict[str, float]
    threshold: float
    threshold_from: str
    confusion: Counts
    frames: int
    unlabelled: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        """The figure of that name."""
        return self.values[name]


class OpenIoUMetrics:
    """Closed-set mIoU, open-mIoU and the gap between them, from one pass over frames with both kinds of label.

    A pixel is called anomalous when ``score >= threshold``, and else has the class that the network says. The threshold
    is to come from another split, as :func:`anomaly.metrics.calibration.choose_threshold` gives it: chosen on the same
    one it would know the labels that it is judged by.

    ``merge`` is associative and commutative, and a frame counts once however often it is seen; that it is the same one
    is checked as :class:`anomaly.metrics.PixelMetrics` does.

    Args:
        classes: Names of the known classes, in the order of their ids.
        threshold: What ``choose_threshold`` gave, or a finite score, of any number type, kept as a Python float of the
            same value.
        name: Name of the score, for error messages; only parts of one name merge.
        dataset: Name of the evaluation set; likewise.

    Raises:
        InputError: There is no class, a name occurs twice or is no str, or the threshold is not finite, of another
            score or chosen on this set.

    Examples:
        >>> metrics = OpenIoUMetrics(("road", "sky"), threshold=0.5)
        >>> label, classes = np.uint8([[0, 0, 0, 1]]), np.uint8([[0, 0, 1, 255]])
        >>> metrics.update("a", np.uint8([[0, 0, 1, 1]]), np.float32([[0.1, 0.7, 0.2, 0.9]]), label, classes)
        >>> result = metrics.compute()
        >>> result["closed_miou"], result["open_miou"], result["gap"], result["anomaly_iou"]
        (1.0, 0.75, 0.25, 0.5)
    """

    def __init__(
        self, classes: Sequence[str], threshold: Threshold | float, *, name: str = "score", dataset: str = ""
    ) -> None:
        value = threshold.value if isinstance(threshold, Threshold) else threshold
        value = real("threshold", value, "a finite score, chosen on another split", finite=True)
        if isinstance(threshold, Threshold) and threshold.name != name:
            raise InputError(f"threshold: expected one of score {name!r}, found one of {threshold.name!r}")
        if isinstance(threshold, Threshold) and dataset and threshold.dataset == dataset:
            raise InputError(
                f"threshold: it was chosen on {dataset!r} itself, whose labels it knows; choose it on another"
            )
        found = () if isinstance(classes, str) else tuple(text("classes", each) for each in classes)
        if not found or len({*found}) != len(found):
            raise InputError(f"classes: expected a list of names that differ, at least one, found {classes!r}")
        self.classes = found
        self.threshold = threshold if isinstance(threshold, Threshold) else value
        self.name = text("name", name)
        self.dataset = text("dataset", dataset)
        self._keys = FrameKeys()
        self._frames: dict[str, tuple[npt.NDArray[np.int32], Counts]] = {}  # where counts are not 0, and the counts

    def update(
        self, frame_id: str, prediction: ClassMap, score: npt.NDArray[Any], label: Label, class_label: ClassMap
    ) -> None:
        """Add one frame; a frame that was seen before stays as it was.

        Args:
            frame_id: Name of the frame, a str, unique in its set.
            prediction: The network's class for every pixel, from 0; anomaly is none of them.
            score: Higher = more anomalous, every value finite; as of :meth:`anomaly.metrics.PixelMetrics.update`.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, as an array of any real type.
            class_label: The class of each ``KNOWN`` pixel; its other values are not looked at.

        Shape:
            All ``(H, W)``; frames may differ in size.

        Raises:
            InputError: As of that, or a class is none of the network's.
        """
        frame_id = as_frame_id(frame_id)
        label, prediction, class_label = (
            as_array(frame_id, what, values)
            for what, values in (("label", label), ("prediction", prediction), ("class label", class_label))
        )
        score = as_score(frame_id, self.name, score, label.shape)
        key = FrameKey.of(count_label(frame_id, label), score, label)
        known, anomaly = label == KNOWN, label == ANOMALY
        self._check_classes(frame_id, "prediction", prediction, known | anomaly)
        self._check_classes(frame_id, "class label", class_label, known)
        if self._keys.repeats(frame_id, key):
            return
        counted = known | anomaly
        if len(self.classes) > np.iinfo(class_label.dtype).max:
            class_label = class_label.astype(np.int64)
        truth = np.where(anomaly, len(self.classes), class_label)[counted]
        called = score[counted] >= np.float64(self._value)
        said = prediction[counted].astype(np.int64) if prediction.dtype == np.uint64 else prediction[counted]
        counts = count_decisions(truth, said, called, len(self.classes)).ravel()
        places = np.flatnonzero(counts)
        self._frames[frame_id] = (places.astype(np.int32), counts[places])
        self._keys.add(frame_id, key)

    def merge(self, other: OpenIoUMetrics) -> None:
        """Take over the frames of ``other``, which stays as it is.

        Raises:
            InputError: ``other`` measures another score, set or classes, or at another threshold; or a frame of both is
                another one there.
        """
        settings = ("name", "dataset", "classes", "threshold")
        mine, theirs = ({name: getattr(one, name) for name in settings} for one in (self, other))
        check_same_settings("open-world IoU", mine, theirs)
        self._keys.check(other._keys)
        self._frames = {**other._frames, **self._frames}
        self._keys.take(other._keys)

    def compute(self) -> OpenIoUResult:
        """Measure all frames; ``update`` and ``merge`` may go on afterwards.

        Warns:
            UndefinedMetricWarning: There is no known or no anomaly pixel, and what needs them is NaN.
        """
        c = len(self.classes)
        counts = np.zeros(2 * (c + 1) * c, np.int64)
        for places, added in self._frames.values():
            counts[places] += added
        decisions = counts.reshape(2, c + 1, c)
        confusion = open_confusion(decisions)
        closed, opened = iou(closed_confusion(decisions)), iou(confusion)
        known, anomaly = int(confusion[:-1].sum()), int(confusion[-1].sum())
        tp, fp = int(confusion[-1, -1]), int(confusion[:-1, -1].sum())
        missing = " and ".join(kind for kind, count in (("known", known), ("anomaly", anomaly)) if not count)
        if missing:
            message = f"score {self.name!r}: open-world figures are NaN: there are no {missing} pixels"
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        closed_miou, open_miou = (_mean(values[:c]) if known and anomaly else math.nan for values in (closed, opened))
        return OpenIoUResult(
            values={
                "closed_miou": _mean(closed),
                "open_miou": open_miou,
                "gap": closed_miou - open_miou,
                "anomaly_iou": float(opened[c]) if anomaly else math.nan,
                "anomaly_precision": tp / (tp + fp) if tp + fp else math.nan,
                "tpr": tp / anomaly if anomaly else math.nan,
                "fpr": fp / known if known else math.nan,
            },
            closed_iou=dict(zip(self.classes, closed.tolist(), strict=True)),
            open_iou=dict(zip(self.classes, opened[:c].tolist(), strict=True)),
            threshold=self._value,
            threshold_from=self.threshold.dataset if isinstance(self.threshold, Threshold) else "",
            confusion=confusion,
            frames=len(self._frames),
            unlabelled=tuple(n for n, row in zip(self.classes, confusion, strict=False) if not row.sum()),
        )

    def reset(self) -> None:
        """Forget all frames."""
        self._frames, self._keys = {}, FrameKeys()

    @property
    def _value(self) -> float:
        return self.threshold.value if isinstance(self.threshold, Threshold) else self.threshold

    def _check_classes(self, frame_id: str, what: str, values: ClassMap, where: npt.NDArray[np.bool_]) -> None:
        """Raise ``InputError`` unless an array has the label's shape and holds class ids at the pixels that count."""
        if values.shape != where.shape or values.dtype.kind not in "iu":
            raise InputError(
                f"frame {frame_id!r}: expected a {what} of integers and of shape {where.shape} as the label, found "
                f"{values.dtype} of {values.shape}"
            )
        strange = where & ((values < 0) | (values >= len(self.classes)))
        if strange.any():
            raise InputError(
                f"frame {frame_id!r}: expected a {what} of 0 to {len(self.classes) - 1} at every pixel that counts, "
                f"found {np.unique(values[strange]).tolist()}; label what has no class IGNORE"
            )


def _mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
