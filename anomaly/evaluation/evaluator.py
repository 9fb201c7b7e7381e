"""From a model and datasets to metrics: one forward pass of each frame, however many scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.fingerprint import Fingerprint
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback, DatasetEnd, FrameResult, first_frames
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.score_maps import (
    NO_POST,
    ScorePipeline,
    Store,
    check_scores,
    predicted_classes,
    top_classes,
)
from anomaly.evaluation.score_metrics import ScoreMetrics
from anomaly.frames import ANOMALY, KNOWN, Frame
from anomaly.metrics.calibration import Threshold, choose_threshold
from anomaly.models.base import Model
from anomaly.models.loop import show
from anomaly.models.tiling import Inference
from anomaly.postprocessing.table import Chain
from anomaly.results.records import DatasetResult
from anomaly.scores.registry import Score, check_not_learned
from anomaly.utils.background import Worker
from anomaly.utils.names import check_distinct
from anomaly.utils.profile import Profile

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly.models.views import ImagePrediction


def evaluate(
    model: Model | None,
    datasets: Sequence[Dataset],
    scores: Sequence[Score],
    *,
    inference: Inference | None = None,
    post: Sequence[Chain] = NO_POST,
    check: Callable[[str, str], None] | None = None,
    stores: Mapping[str, Store] | None = None,
    config: MetricConfig | None = None,
    callbacks: Sequence[Callback] = (),
    profile: Profile | None = None,
) -> list[DatasetResult]:
    """Measure every score on every dataset, pooling all pixels of a dataset.

    The model runs once for each view of a frame, whatever the scores. Score maps are resized bilinearly to the label,
    then post-processed. Reading ahead and scoring have a background thread each. Four evenly spaced frames of each
    dataset are visited first; the order changes no number.

    Args:
        model: The model; None where all scores are stored.
        datasets: Their names have to be distinct.
        scores: At least one; their names are distinct.
        inference: How the model is shown an image; once, and whole, by default.
        post: Chains of post-processing, each applied to every score; none by default.
        check: Called with each frame's name and :func:`anomaly.frames.image_hash`, stored or not; raises where it must
            not be evaluated.
        stores: By dataset, where score maps are: a frame whose scores are all there is not shown to the model.
        config: Which metrics are computed.
        callbacks: Told of every frame and dataset.
        profile: Gets the seconds spent in each stage.

    Returns:
        One result for each dataset, in their order.

    Raises:
        InputError: Two datasets, or two scores with their post-processing, have one name; a threshold or a store is of
            a score or a dataset that is not evaluated; a score needs what the model does not give (all of this is found
            before a frame is read); a frame cannot be read, or is one of the images that a threshold was chosen on or a
            score was fitted to; a score is NaN or infinite; or a dataset has no anomalous or no known pixel.
    """
    datasets, scores, post = list(datasets), list(scores), list(post)
    if not (datasets and scores and post):
        raise InputError("expected datasets, scores and chains of post-processing, one each at least; found none")
    check_distinct((dataset.name for dataset in datasets), "datasets", "evaluate them one by one, or rename one")
    check_scores(scores, model)
    pipeline = ScorePipeline(scores, post, () if model is None else model.classes)
    profile, config, stores = profile or Profile(), config or MetricConfig(), stores or {}
    if any(callback.needs_curves for callback in callbacks):
        config = replace(config, curves=True)
    _check_used("stores", stores, [dataset.name for dataset in datasets])
    _check_used("thresholds", config.thresholds, pipeline.names)
    without = [name for name in pipeline.names if name not in config.thresholds]
    if config.components_at == "calibrated" and without:
        raise InputError(f"components_at='calibrated': expected a threshold of {without[0]}, found none; choose one")
    runs = {
        dataset.name: _DatasetRun(dataset, pipeline, stores.get(dataset.name), config, callbacks, profile)
        for dataset in datasets
    }

    def add(read: _ReadFrame, prediction: ImagePrediction | None) -> None:
        runs[read.dataset].add(read.frame, prediction)

    def stored(name: str, frame: Frame) -> bool:
        return runs[name].stored(frame)

    for callback in callbacks:
        callback.on_start(datasets, pipeline.names)
    reader = _Reader(model, stored, check, profile, scores, tuple(config.thresholds.values()))
    _visit(reader, inference or Inference(), _visits(datasets), add)
    with profile.stage("pictures"):
        for callback in callbacks:
            callback.on_end()
    return [runs[dataset.name].result for dataset in datasets]


def calibrate(
    model: Model | None,
    calibration: Calibration,
    scores: Sequence[Score],
    *,
    inference: Inference | None = None,
    post: Sequence[Chain] = NO_POST,
    check: Callable[[str, str], None] | None = None,
    store: Store | None = None,
    config: MetricConfig | None = None,
    on_frame: Callable[[], None] = lambda: None,
    profile: Profile | None = None,
) -> dict[str, Threshold]:
    """Choose a threshold for every score on one dataset, to be measured on others as ``MetricConfig.thresholds``.

    Args:
        model: The model; None where all scores are stored.
        calibration: The dataset and the rule.
        scores: At least one; their names are distinct.
        inference: How the model is shown an image; once, and whole, by default.
        post: Chains of post-processing, each applied to every score; none by default.
        check: Called with each frame's name and image hash; raises where it must not be used.
        store: Where score maps of the dataset are.
        config: How much memory the scores may take.
        on_frame: Called after each frame.
        profile: Gets the seconds spent in each stage.

    Raises:
        InputError: Whatever :func:`evaluate` refuses, or the dataset has not the pixels that the rule needs.
    """
    check_scores(scores, model)
    pipeline = ScorePipeline(scores, post, () if model is None else model.classes)
    profile, config = profile or Profile(), config or MetricConfig()
    dataset = calibration.dataset
    metrics = {name: config.pixel_metrics(name, dataset.name) for name in pipeline.names}
    images: set[str] = set()

    def add(read: _ReadFrame, prediction: ImagePrediction | None) -> None:
        frame = read.frame
        images.add(frame.image_hash)
        size, classes = (frame.label.shape[0], frame.label.shape[1]), None
        if prediction is not None and pipeline.needs_classes:
            classes = predicted_classes(prediction, size)
        raw = pipeline.read(frame, store) if prediction is None else pipeline.score(prediction, size)
        for name, score in pipeline.post_process(frame, raw, classes).items():
            metrics[name].update(frame.id, score, frame.label)
        on_frame()

    def stored(name: str, frame: Frame) -> bool:
        names = [score.name for score in scores]
        return store is not None and store.has(frame.id, names, frame.image_hash) and not pipeline.needs_classes

    visits = [(dataset, i) for i in range(len(dataset))]
    _visit(_Reader(model, stored, check, profile, scores), inference or Inference(), visits, add)
    chosen = {name: choose_threshold(each, calibration.rule, calibration.level) for name, each in metrics.items()}
    return {name: replace(threshold, images=frozenset(images)) for name, threshold in chosen.items()}


class _DatasetRun:
    """One dataset's scores and metrics while its frames come in, in any order; ``result`` is there after the last.

    Only the worker thread adds frames.
    """

    result: DatasetResult

    def __init__(
        self,
        dataset: Dataset,
        pipeline: ScorePipeline,
        store: Store | None,
        config: MetricConfig,
        callbacks: Sequence[Callback],
        profile: Profile,
    ) -> None:
        self._dataset = dataset
        self._pipeline = pipeline
        self._store = store
        self._callbacks, self._profile = callbacks, profile
        self._metrics = {name: ScoreMetrics(name, dataset, config, pipeline.classes) for name in pipeline.names}
        self._left = len(dataset)
        self._fingerprint = Fingerprint()
        self._images: dict[str, str] = {}
        self._met = {KNOWN: False, ANOMALY: False}

    def stored(self, frame: Frame) -> bool:
        """Whether the frame's scores can be read, and nothing else is needed of the model."""
        names = [score.name for score in self._pipeline.scores]
        there = self._store is not None and self._store.has(frame.id, names, frame.image_hash)
        return there and not self._needs_classes(frame)

    def _needs_classes(self, frame: Frame) -> bool:
        return (
            self._pipeline.needs_classes
            or any(metric.needs_classes for metric in self._metrics.values())
            or any(callback.wants_classes(self._dataset.name, frame.id) for callback in self._callbacks)
        )

    def add(self, frame: Frame, prediction: ImagePrediction | None) -> None:
        """Score and measure a frame, and tell of it; ``prediction`` is None where its scores are stored."""
        self._images[frame.id] = frame.image_hash
        size = (frame.label.shape[0], frame.label.shape[1])
        with self._profile.stage("scores", background=True):
            classes = None
            if prediction is not None and self._needs_classes(frame):
                classes = predicted_classes(prediction, size)
            if prediction is None:
                raw = self._pipeline.read(frame, self._store)
            else:
                raw = self._pipeline.score(prediction, size)
            maps = self._pipeline.post_process(frame, raw, classes)
        with self._profile.stage("metrics", background=True):
            for name, metric in self._metrics.items():
                metric.update(frame, maps[name], classes)
            self._fingerprint.add(frame.id, frame.label)
            for value in self._met:
                self._met[value] |= bool((frame.label == value).any())
        with self._profile.stage("report", background=True):
            top = None if prediction is None else partial(top_classes, prediction, size)
            result = FrameResult(self._dataset.name, frame, maps, raw, prediction is not None, classes, top)
            for callback in self._callbacks:
                callback.on_frame(result)
        self._left -= 1
        if self._left == 0:
            self._finish()

    def _finish(self) -> None:
        with self._profile.stage("metrics", background=True):
            self.result = self._compute()
        curves = {name: metric.curves for name, metric in self._metrics.items() if metric.curves is not None}
        tables = {name: metric.table for name, metric in self._metrics.items() if metric.table is not None}
        for callback in self._callbacks:
            callback.on_dataset_end(DatasetEnd(self.result, self._pipeline.classes, curves, tables))
        self._metrics.clear()

    def _compute(self) -> DatasetResult:
        dataset = self._dataset
        for value, word in ((ANOMALY, "anomalous"), (KNOWN, "known")):
            if not self._met[value]:
                raise InputError(
                    f"{dataset.name}: expected known and anomalous pixels, found not one {word} pixel in "
                    f"{len(dataset)} frames of {dataset.root}; evaluate more frames (a higher --limit, or none), or "
                    "check that these are the dataset's labels"
                )
        return DatasetResult(
            dataset.name,
            len(dataset),
            dataset.layout,
            {name: metric.result() for name, metric in self._metrics.items()},
            version=dataset.version,
            fingerprint=self._fingerprint.hexdigest(),
            published_frames=dataset.published or 0,
            notes=list(dataset.notes),
            images={frame: self._images[frame] for frame in sorted(self._images)},
        )


@dataclass(frozen=True)
class _ReadFrame:
    """A frame that was read: its dataset's name, and the model's input of it, None where the model is not asked."""

    dataset: str
    frame: Frame
    inputs: Tensor | None


@dataclass(frozen=True)
class _Reader:
    """Reads frames in the background, and prepares those that the model is asked about."""

    model: Model | None
    stored: Callable[[str, Frame], bool]
    check: Callable[[str, str], None] | None
    profile: Profile
    scores: Sequence[Score]
    thresholds: tuple[Threshold, ...] = ()

    def __call__(self, visit: tuple[Dataset, int]) -> _ReadFrame:
        dataset, i = visit
        with self.profile.stage("reading", background=True):
            frame = dataset.frame(i)
            check_not_learned(self.scores, frame.id, frame.image_hash)
            if self.check is not None:
                self.check(frame.id, frame.image_hash)
            for threshold in self.thresholds:
                _check_apart(threshold, dataset.name, frame)
            if self.stored(dataset.name, frame) or self.model is None:
                return _ReadFrame(dataset.name, frame, None)
            return _ReadFrame(dataset.name, frame, self.model.prepare(frame.image))


def _visit(
    reader: _Reader,
    inference: Inference,
    visits: Sequence[tuple[Dataset, int]],
    add: Callable[[_ReadFrame, ImagePrediction | None], None],
) -> None:
    """Show frames to the model in order, and hand each on to the background thread that scores."""
    profile, model = reader.profile, reader.model

    def ask(group: Sequence[_ReadFrame]) -> Sequence[ImagePrediction | None]:
        if model is None:
            return [None] * len(group)
        from anomaly.models.views import predict_batch

        return predict_batch(model, inference, [each.inputs for each in group])

    shown = show(visits, reader, ask, shape=_shape, batch=inference.batch, profile=profile)
    with closing(shown) as frames, Worker() as worker:
        for read, prediction in frames:
            with profile.stage("scores"):
                worker.submit(add, read, prediction)
        with profile.stage("metrics"):
            worker.finish()


def _shape(read: _ReadFrame) -> Any:
    return None if read.inputs is None else read.inputs.shape


def _visits(datasets: Sequence[Dataset]) -> list[tuple[Dataset, int]]:
    """All frames, the first ones of every dataset before the others."""
    first, rest = [], []
    for dataset in datasets:
        chosen = first_frames(len(dataset))
        first += [(dataset, i) for i in chosen]
        rest += [(dataset, i) for i in range(len(dataset)) if i not in chosen]
    return first + rest


def chosen_on_it(measured: str, chosen: str, frames: Sequence[str]) -> str:
    """Say that a dataset has images that the threshold was chosen on."""
    return (
        f"{measured}: expected images that no threshold was chosen on, found {len(frames)} of {chosen}, such as frame "
        f"{frames[0]!r}; a threshold knows the labels of these: choose it on other images, or leave {measured} out"
    )


def _check_apart(threshold: Threshold, name: str, frame: Frame) -> None:
    """Refuse an image that a threshold was chosen on, and one of another dataset than that, but of its name."""
    if frame.image_hash in threshold.images:
        if threshold.dataset != name:
            raise InputError(chosen_on_it(name, threshold.dataset, [frame.id]))
    elif threshold.images and threshold.dataset == name:
        raise InputError(
            f"{name}: expected the images of the dataset of that name that the threshold was chosen on, found another, "
            f"frame {frame.id!r}; no threshold is applied to its own dataset, so give two datasets names that differ"
        )


def _check_used(what: str, given: Iterable[str], used: Sequence[str]) -> None:
    """Refuse what would do nothing, as it is of a name that is not evaluated."""
    if unused := sorted(set(given) - set(used)):
        raise InputError(f"{what}: expected names among {', '.join(used)}, found {unused[0]!r}; correct it")
