"""Closed-set mIoU of any model on a dataset that labels classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.score_maps import predicted_classes
from anomaly.frames import KNOWN, Frame
from anomaly.metrics.functional.open_iou import iou
from anomaly.models.base import Model
from anomaly.models.loop import show
from anomaly.models.tiling import Inference
from anomaly.results.records import ClosedSet
from anomaly.utils.processes import ALONE, Processes
from anomaly.utils.profile import Profile

if TYPE_CHECKING:
    from anomaly.models.views import ImagePrediction


def check_closed_set(model: Model, dataset: Dataset) -> None:
    """Check that a dataset labels the classes of a model, in its order.

    Raises:
        InputError: The dataset labels no classes, or other ones, or those of the model are not known.
    """
    if not dataset.classes:
        raise InputError(
            f"{dataset.name}: expected a dataset that labels classes by their index, such as cityscapes-val, found one "
            "that does not; choose another for the closed set"
        )
    if tuple(model.classes) != dataset.classes:
        pairs = enumerate(zip_longest(dataset.classes, model.classes, fillvalue="nothing"))
        place, (expected, found) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        known = f"{found!r}, class {place}, in place of {expected!r}" if model.classes else "classes without names"
        raise InputError(
            f"closed set {dataset.name}: expected a model of its {len(dataset.classes)} classes, found {known}; choose "
            "another closed set, or correct the names (id2label of a Hugging Face network, classes= of a module)"
        )


def measure_closed_set(
    model: Model,
    dataset: Dataset,
    *,
    on_frame: Callable[[], None] = lambda: None,
    profile: Profile | None = None,
    processes: Processes = ALONE,
) -> ClosedSet:
    """Segment images and compare the predicted classes with the labels.

    Class maps are resized bilinearly to the label before the largest value decides. Images are shown whole, or in the
    model's own windows.

    Args:
        model: The model.
        dataset: A dataset that :func:`check_closed_set` accepts.
        on_frame: Called after each frame of this process.
        profile: Receives the seconds spent in each stage.
        processes: The processes that share the frames.

    Returns:
        IoU and accuracy pooled over the frames, as fractions in 0..1. A class in neither labels nor predictions is NaN
        and is left out of means.

    Raises:
        InputError: An image or label cannot be read.
    """
    from anomaly.models.views import predict_image

    inference = getattr(model, "inference", None) or Inference()
    count = len(dataset.classes)
    confusion = np.zeros(count * count, np.int64)

    def ask(frames: Sequence[Frame]) -> Sequence[ImagePrediction]:
        return [predict_image(model, frame.image, inference) for frame in frames]

    frames = processes.in_turn(range(len(dataset)))
    with closing(show(frames, dataset.frame, ask, profile=profile)) as shown:
        for frame, prediction in shown:
            found = predicted_classes(prediction, (frame.label.shape[0], frame.label.shape[1]))
            if found is None or frame.class_label is None:
                raise InputError("closed set: expected a model that predicts classes, found one that does not")
            known = frame.label == KNOWN
            pairs = frame.class_label[known].astype(np.int64) * count + found[known]
            confusion += np.bincount(pairs, minlength=count * count)
            on_frame()
    table = sum(processes.gather(confusion), np.zeros(count * count, np.int64)).reshape(count, count)
    of_class, labelled, hits = iou(table), table.sum(1), np.diag(table)
    accuracy = np.divide(hits, labelled, out=np.full(count, np.nan), where=labelled > 0)
    return ClosedSet(
        dataset=dataset.name,
        frames=len(dataset),
        miou=float(np.nanmean(of_class)),
        macc=float(np.nanmean(accuracy)),
        aacc=float(hits.sum() / labelled.sum()),
        class_iou=dict(zip(dataset.classes, of_class.tolist(), strict=True)),
        unlabelled=[name for name, pixels in zip(dataset.classes, labelled.tolist(), strict=True) if not pixels],
    )
