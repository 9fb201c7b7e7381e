"""Open-world IoU: the quality of a segmentation when anomalies occur."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, KNOWN, Label, as_array, as_frame_id, as_score
from anomaly.metrics.calibration import Threshold
from anomaly.metrics.distributed import State, gather
from anomaly.metrics.functional.curve import Counts
from anomaly.metrics.functional.open_iou import closed_confusion, count_decisions, iou, open_confusion
from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.measured import FrameCounts
from anomaly.metrics.merging import check_same_settings
from anomaly.metrics.repeats import FrameKey, FrameKeys, count_label
from anomaly.utils.given import real, text

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

ClassMap = npt.NDArray[np.integer]


@dataclass(frozen=True)
class OpenIoUResult:
    """Closed-set and open-world IoU of a segmentation.

    ``result["gap"]`` is short for ``result.values["gap"]``.

    Args:
        values: Values by name; fractions, NaN where undefined. ``closed_miou`` is the mean IoU of the known classes on
            known pixels, with nothing flagged. ``open_miou`` is the mean over the same classes with anomaly as a
            further class, and ``gap`` their difference. ``anomaly_iou``, ``anomaly_precision``, ``tpr`` and ``fpr``
            are those of the anomaly class at the threshold. Means leave out classes that occur neither in labels nor
            in predictions.
        closed_iou: Closed-set IoU of each class.
        open_iou: Open-world IoU of each class.
        threshold: Pixels with ``score >= threshold`` were flagged as anomalous.
        threshold_from: Dataset on which the threshold was chosen; empty if a number was given.
        confusion: Counts of all pixels, with anomaly as the last class; rows are the truth. Shape ``(C + 1, C + 1)``.
        frames: Number of distinct frames.
        unlabelled: Classes without a labelled pixel. If such a class is predicted, its IoU is 0, which lowers the mean.
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
        """The value of that name."""
        return self.values[name]


class OpenIoUMetrics:
    """Closed-set mIoU, open-world mIoU and the gap between them, from frames with anomaly labels and class labels.

    A pixel is flagged as anomalous when ``score >= threshold``; otherwise it has the class that the network predicts.
    Choose the threshold on another dataset, with :func:`anomaly.metrics.calibration.choose_threshold`. One chosen on
    the same dataset would depend on the labels that it is evaluated with, and is an error.

    ``merge`` is associative and commutative. A frame counts once, however often it is added; as in
    :class:`anomaly.metrics.PixelMetrics`, a different frame of the same name is an error.

    Args:
        classes: Names of the known classes, in the order of their indices.
        threshold: A threshold of ``choose_threshold``, or a finite score of any number type, kept as a Python float of
            the same value.
        name: Name of the score, for error messages. Only metrics of the same name can be merged.
        dataset: Name of the dataset, for error messages. Only metrics of the same dataset can be merged.

    Raises:
        InputError: There is no class, a class name occurs twice or is not a str, or the threshold is not finite,
            belongs to another score, or was chosen on this dataset.

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
        value = real("threshold", value, "a finite score, chosen on another dataset", finite=True)
        if isinstance(threshold, Threshold) and threshold.name != name:
            raise InputError(
                f"threshold: expected one of score {name!r}, found one of {threshold.name!r}; choose it with this score"
            )
        if isinstance(threshold, Threshold) and dataset and threshold.dataset == dataset:
            raise InputError(
                f"threshold: expected one chosen on another dataset, found one chosen on {dataset!r} itself; choose it "
                "on another dataset"
            )
        names = () if isinstance(classes, str) else tuple(text("classes", each) for each in classes)
        if not names or len({*names}) != len(names):
            raise InputError(f"classes: expected a list of distinct names, found {classes!r}; give at least one")
        self.classes = names
        self.threshold = threshold if isinstance(threshold, Threshold) else value
        self.name = text("name", name)
        self.dataset = text("dataset", dataset)
        self._keys = FrameKeys()
        self._frames: dict[str, tuple[npt.NDArray[np.int32], Counts]] = {}  # indices and values of nonzero counts

    def update(
        self, frame_id: str, prediction: ClassMap, score: npt.NDArray[Any], label: Label, class_label: ClassMap
    ) -> None:
        """Add a frame; one that was added before is not changed.

        Args:
            frame_id: Name of the frame, a str, unique in its dataset.
            prediction: Class index that the network predicts for each pixel, from 0; anomaly is not a class here.
            score: Score of each pixel, finite, higher = more anomalous; an array or torch tensor of any real type.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, an array of any real type.
            class_label: Class index of each ``KNOWN`` pixel; values at other pixels are not read.

        Shape:
            All ``(H, W)``; frames may differ in size.

        Raises:
            InputError: ``frame_id`` is not a str; the shapes differ; a score is not finite or not real; a label or
                class index is out of range; an array is masked; or another frame of this id was added. The frame is
                not added then.
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
        flagged = score[counted] >= np.float64(self._value)
        predicted = prediction[counted].astype(np.int64) if prediction.dtype == np.uint64 else prediction[counted]
        counts = count_decisions(truth, predicted, flagged, len(self.classes)).ravel()
        places = np.flatnonzero(counts)
        self._frames[frame_id] = (places.astype(np.int32), counts[places])
        self._keys.add(frame_id, key)

    def merge(self, other: OpenIoUMetrics) -> None:
        """Add the frames of ``other``, which does not change.

        Raises:
            InputError: ``other`` has another score, dataset, threshold or other classes, or a different frame of the
                same id.
        """
        settings = ("name", "dataset", "classes", "threshold")
        mine, theirs = ({name: getattr(one, name) for name in settings} for one in (self, other))
        check_same_settings("open-world IoU", mine, theirs)
        self._keys.check(other._keys)
        self._frames = {**other._frames, **self._frames}
        self._keys.take(other._keys)

    def gather(self, group: ProcessGroup | None = None) -> None:
        """Add the frames of all ``torch.distributed`` processes to the metrics of process 0.

        Call it on every process. It does nothing without a process group. Only the metrics of process 0 change.

        Args:
            group: A gloo group to use; by default all processes, in a group that is made for this call.

        Raises:
            InputError: A part cannot be merged; raised on every process.
        """
        gather(self, self.from_state, group)

    def compute(self) -> OpenIoUResult:
        """Compute the metrics of all frames. You can call ``update`` and ``merge`` again afterwards.

        Warns:
            UndefinedMetricWarning: There is no known or no anomaly pixel; values that need one are NaN.
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
            message = f"score {self.name!r}: open-world values are NaN: there are no {missing} pixels"
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
        """Remove all frames."""
        self._frames, self._keys = {}, FrameKeys()

    def state(self) -> State:
        """Return the state as values that JSON can hold, and as arrays: the counts of each frame."""
        threshold: Any = self.threshold
        if isinstance(threshold, Threshold):
            threshold = {**asdict(threshold), "images": sorted(threshold.images)}
        settings = {"classes": list(self.classes), "threshold": threshold, "name": self.name, "dataset": self.dataset}
        arrays = (array for frame_id in self._keys.counts for array in self._frames[frame_id])
        return {"settings": settings, **self._keys.state()}, arrays

    @classmethod
    def from_state(cls, header: dict[str, Any], arrays: Iterator[npt.NDArray[Any]]) -> OpenIoUMetrics:
        """Make metrics from a state of :meth:`state`.

        Args:
            header: Values of the state.
            arrays: Arrays of the state.

        Raises:
            InputError: A setting of the state is not valid.
            ValueError: The counts of a frame are not valid.
        """
        settings = dict(header["settings"])
        if isinstance(settings["threshold"], dict):
            images = frozenset(text("images", image) for image in settings["threshold"]["images"])
            settings["threshold"] = Threshold(**{**settings["threshold"], "images": images})
        metrics = cls(**settings)
        metrics._keys = FrameKeys.from_state(header)
        for frame_id, pixels in metrics._keys.counts.items():
            places, counts = next(arrays), next(arrays)
            metrics._check_counts(frame_id, pixels, places, counts)
            metrics._frames[frame_id] = (places, counts)
        return metrics

    @property
    def _value(self) -> float:
        return self.threshold.value if isinstance(self.threshold, Threshold) else self.threshold

    def _check_counts(
        self, frame_id: str, pixels: FrameCounts, places: npt.NDArray[Any], counts: npt.NDArray[Any]
    ) -> None:
        """Raise ``ValueError`` unless arrays from a state are the nonzero counts of a frame with so many pixels."""
        c = len(self.classes)
        if (places.dtype, counts.dtype) != (np.int32, np.int64) or places.ndim != 1 or places.shape != counts.shape:
            raise ValueError(f"frame {frame_id!r}: expected lists of places and counts of one length")
        ends = places[[0, -1]].tolist() if places.size else [0, 0]
        if ends[0] < 0 or ends[1] >= 2 * (c + 1) * c or (np.diff(places) <= 0).any() or (counts <= 0).any():
            raise ValueError(f"frame {frame_id!r}: expected ascending places and counts above 0")
        anomaly = places // c % (c + 1) == c
        if [sum(counts[where].tolist()) for where in (~anomaly, anomaly)] != [pixels.known, pixels.anomaly]:
            raise ValueError(
                f"frame {frame_id!r}: expected counts of {pixels.known} known and {pixels.anomaly} anomalies"
            )

    def _check_classes(self, frame_id: str, what: str, values: ClassMap, where: npt.NDArray[np.bool_]) -> None:
        """Raise ``InputError`` unless an array has the shape of the label and holds class indices where needed."""
        if values.shape != where.shape or values.dtype.kind not in "iu":
            raise InputError(
                f"frame {frame_id!r}: expected a {what} of integers with the label's shape {where.shape}, found "
                f"{values.dtype} of shape {values.shape}; convert or resize it"
            )
        strange = where & ((values < 0) | (values >= len(self.classes)))
        if strange.any():
            raise InputError(
                f"frame {frame_id!r}: expected a {what} of 0 to {len(self.classes) - 1} at every evaluated pixel, "
                f"found {np.unique(values[strange]).tolist()}; label pixels without a class IGNORE"
            )


def _mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
