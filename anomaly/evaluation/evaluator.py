"""The evaluation loop: one forward pass for each frame, however many scores are computed."""

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
    class_map,
    top_classes,
)
from anomaly.evaluation.score_metrics import ScoreMetrics
from anomaly.evaluation.shares import frame_share
from anomaly.frames import ANOMALY, KNOWN, Frame
from anomaly.metrics.calibration import Threshold, choose_threshold
from anomaly.models.base import Model
from anomaly.models.loop import decoding_threads, show
from anomaly.models.tiling import Inference
from anomaly.postprocessing.table import Chain
from anomaly.results.records import DatasetResult, ScoreResult
from anomaly.scores.registry import Score, check_not_learned
from anomaly.utils.background import Worker
from anomaly.utils.devices import to_numpy
from anomaly.utils.names import check_distinct
from anomaly.utils.processes import ALONE, Processes
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
    processes: Processes = ALONE,
) -> list[DatasetResult]:
    """Measure every score on every dataset, pooling all pixels of a dataset.

    The model runs once for each view of a frame, for any number of scores. Score maps are resized bilinearly to the
    label, then post-processed. Reading and scoring run in the background, scoring in one thread. For a model on a GPU,
    up to four threads call ``Dataset.frame`` at once. Four evenly spaced frames of each dataset are evaluated first;
    the order does not change any value, and neither does the number of processes.

    Args:
        model: The model; None if all scores are stored.
        datasets: Datasets with distinct names.
        scores: At least one, with distinct names.
        inference: How the model is applied to an image; by default to the whole image once.
        post: Chains of post-processing steps, each applied to every score; none by default.
        check: Called with the name and the :func:`anomaly.frames.image_hash` of each frame, stored or not. It raises an
            error for a frame that must not be evaluated.
        stores: Stored score maps, by dataset name. The model does not run on a frame whose scores are all stored.
        config: Which metrics are computed.
        callbacks: Called for every frame and dataset; see :class:`anomaly.Callback` for many processes.
        profile: Receives the seconds spent in each stage.
        processes: The processes that share the frames. Each gives the same arguments.

    Returns:
        One result for each dataset, in their order; the same on every process.

    Raises:
        InputError: Before a frame is read: two datasets or two score maps have the same name, a threshold or a store
            belongs to a score or dataset that is not evaluated, or a score needs a field that the model does not
            provide. Later: a frame cannot be read, a threshold was chosen or a score was fitted on one of the images, a
            score is NaN or infinite, or a dataset has no anomalous or no known pixel.
    """
    datasets, scores, post = list(datasets), list(scores), list(post)
    if not (datasets and scores and post):
        raise InputError(
            "expected at least one dataset, one score and one post-processing chain, found none; pass them"
        )
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
        raise InputError(f"components_at='calibrated': expected a threshold for {without[0]}, found none; choose one")
    runs = {
        dataset.name: _DatasetRun(dataset, pipeline, stores.get(dataset.name), config, callbacks, profile, processes)
        for dataset in datasets
    }

    def add(read: _ReadFrame, prediction: ImagePrediction | None) -> None:
        runs[read.dataset].add(read.frame, prediction)

    def stored(name: str, frame: Frame) -> bool:
        return runs[name].stored(frame)

    for callback in callbacks:
        callback.on_start(datasets, pipeline.names)
    reader = _Reader(model, stored, check, profile, scores, tuple(config.thresholds.values()))
    inference = inference or Inference()
    first, rest = _visits(
        datasets, {name: frame_share(run.dataset, scores, run.store, processes) for name, run in runs.items()}
    )
    with Worker() as worker:
        _visit(reader, inference, first, add, worker)
        for callback in callbacks:
            worker.submit(callback.on_first_frames)
        for name, visits in rest.items():
            _visit(reader, inference, visits, add, worker)
            worker.submit(runs[name].finish)
        with profile.stage("metrics"):
            worker.finish()
    with profile.stage("pictures"):
        for callback in callbacks:
            callback.on_end()
    return processes.from_first([run.result for run in runs.values() if run.result is not None])


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
    processes: Processes = ALONE,
) -> dict[str, Threshold]:
    """Choose a threshold for every score on one dataset, to be applied to others as ``MetricConfig.thresholds``.

    Args:
        model: The model; None if all scores are stored.
        calibration: The dataset and the rule.
        scores: At least one, with distinct names.
        inference: How the model is applied to an image; by default to the whole image once.
        post: Chains of post-processing steps, each applied to every score; none by default.
        check: Called with the name and the image hash of each frame. It raises an error for a frame that must not be
            used.
        store: Stored score maps of the dataset.
        config: Memory for the scores.
        on_frame: Called after each frame of this process.
        profile: Receives the seconds spent in each stage.
        processes: The processes that share the frames.

    Returns:
        The threshold of each score map, by name; the same on every process.

    Raises:
        InputError: A score needs a field that the model does not provide, a frame cannot be read, a score is NaN or
            infinite, or the dataset lacks the pixels that the rule needs.
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
            classes = class_map(prediction, size)
        raw = pipeline.read(frame, store) if prediction is None else pipeline.score(prediction, size)
        maps = pipeline.post_process(frame, raw, classes)
        label = maps.beside(frame.label)
        for name, score in maps.kept.items():
            metrics[name].update(frame.id, score, label)
        on_frame()

    def stored(name: str, frame: Frame) -> bool:
        names = [score.name for score in scores]
        return store is not None and store.has(frame.id, names, frame.image_hash) and not pipeline.needs_classes

    visits = [(dataset, i) for i in frame_share(dataset, scores, store, processes)]
    with Worker() as worker:
        _visit(_Reader(model, stored, check, profile, scores), inference or Inference(), visits, add, worker)
        with profile.stage("metrics"):
            worker.finish()
    for each in metrics.values():
        processes.merge(each)
    every = frozenset().union(*processes.gather(images))
    chosen: dict[str, Threshold] = {}
    if processes.rank == 0:
        chosen = {name: choose_threshold(each, calibration.rule, calibration.level) for name, each in metrics.items()}
    return processes.from_first({name: replace(threshold, images=every) for name, threshold in chosen.items()})


class _DatasetRun:
    """Scores and metrics of one dataset while its frames come in, in any order.

    Only the worker thread adds frames and calls :meth:`finish`, which sets ``result`` on process 0.
    """

    result: DatasetResult | None = None

    def __init__(
        self,
        dataset: Dataset,
        pipeline: ScorePipeline,
        store: Store | None,
        config: MetricConfig,
        callbacks: Sequence[Callback],
        profile: Profile,
        processes: Processes,
    ) -> None:
        self.dataset, self.store = dataset, store
        self._pipeline = pipeline
        self._processes = processes
        self._callbacks, self._profile = callbacks, profile
        self._metrics = {name: ScoreMetrics(name, dataset, config, pipeline.classes) for name in pipeline.names}
        self._fingerprint = Fingerprint()
        self._images: dict[str, str] = {}
        self._met = {KNOWN: False, ANOMALY: False}

    def stored(self, frame: Frame) -> bool:
        """Whether the frame's scores can be read from the store, and nothing else of the model is needed."""
        names = [score.name for score in self._pipeline.scores]
        there = self.store is not None and self.store.has(frame.id, names, frame.image_hash)
        return there and not self._needs_classes(frame)

    def _needs_classes(self, frame: Frame) -> bool:
        return self._pipeline.needs_classes or self._shows_classes(frame)

    def _shows_classes(self, frame: Frame) -> bool:
        """Whether a metric or a callback needs the predicted classes as an array."""
        return any(metric.needs_classes for metric in self._metrics.values()) or any(
            callback.wants_classes(self.dataset.name, frame.id) for callback in self._callbacks
        )

    def add(self, frame: Frame, prediction: ImagePrediction | None) -> None:
        """Score and measure a frame and call the callbacks; ``prediction`` is None if its scores are stored."""
        self._images[frame.id] = frame.image_hash
        size = (frame.label.shape[0], frame.label.shape[1])
        with self._profile.stage("scores", background=True):
            classes = None
            if prediction is not None and self._needs_classes(frame):
                classes = class_map(prediction, size)
            if prediction is None:
                raw = self._pipeline.read(frame, self.store)
            else:
                raw = self._pipeline.score(prediction, size)
            maps = self._pipeline.post_process(frame, raw, classes)
        with self._profile.stage("metrics", background=True):
            shown = None if classes is None or not self._shows_classes(frame) else to_numpy(classes)
            label = maps.beside(frame.label)
            for metric in self._metrics.values():
                metric.update(frame, maps, label, shown)
            self._fingerprint.add(frame.id, frame.label)
            for value in self._met:
                self._met[value] |= bool((frame.label == value).any())
        with self._profile.stage("report", background=True):
            top = None if prediction is None else partial(top_classes, prediction, size)
            result = FrameResult(self.dataset.name, frame, maps, raw, prediction is not None, shown, top)
            for callback in self._callbacks:
                callback.on_frame(result)

    def finish(self) -> None:
        """Bring the frames of all processes together; process 0 computes the result and calls the callbacks."""
        with self._profile.stage("metrics", background=True):
            parts = self._processes.gather((self._images, self._met, self._fingerprint))
            for images, met, fingerprint in parts:
                self._images |= images
                self._met = {value: seen or met[value] for value, seen in self._met.items()}
                self._fingerprint.merge(fingerprint)
            self._check_met()
            scores = {name: metric.result(self._processes) for name, metric in self._metrics.items()}
            if self._processes.rank == 0:
                self.result = self._result({name: one for name, one in scores.items() if one is not None})
        if self.result is not None:
            self._tell(self.result)
        self._metrics.clear()

    def _tell(self, result: DatasetResult) -> None:
        curves = {name: metric.curves for name, metric in self._metrics.items() if metric.curves is not None}
        tables = {name: metric.table for name, metric in self._metrics.items() if metric.table is not None}
        for callback in self._callbacks:
            callback.on_dataset_end(DatasetEnd(result, self._pipeline.classes, curves, tables))

    def _check_met(self) -> None:
        """Raise ``InputError`` unless there were anomalous and known pixels."""
        dataset = self.dataset
        for value, word in ((ANOMALY, "anomalous"), (KNOWN, "known")):
            if not self._met[value]:
                raise InputError(
                    f"{dataset.name}: expected known and anomalous pixels, found not one {word} pixel in "
                    f"{len(dataset)} frames of {dataset.root}; evaluate more frames (a higher --limit, or none), or "
                    "check the labels"
                )

    def _result(self, scores: dict[str, ScoreResult]) -> DatasetResult:
        dataset = self.dataset
        return DatasetResult(
            dataset.name,
            len(dataset),
            dataset.layout,
            scores,
            version=dataset.version,
            fingerprint=self._fingerprint.hexdigest(),
            published_frames=dataset.published or 0,
            notes=list(dataset.notes),
            images={frame: self._images[frame] for frame in sorted(self._images)},
        )


@dataclass(frozen=True)
class _ReadFrame:
    """A frame, its dataset's name, and the model's input (None if the model does not run on it)."""

    dataset: str
    frame: Frame
    inputs: Tensor | None


@dataclass(frozen=True)
class _Reader:
    """Reads frames in the background: decodes several at once, then checks and preprocesses them in order."""

    model: Model | None
    stored: Callable[[str, Frame], bool]
    check: Callable[[str, str], None] | None
    profile: Profile
    scores: Sequence[Score]
    thresholds: tuple[Threshold, ...] = ()

    def decode(self, visit: tuple[Dataset, int]) -> tuple[Dataset, Frame]:
        dataset, i = visit
        with self.profile.stage("reading", background=True):
            frame = dataset.frame(i)
            _ = frame.image_hash  # computed here, and kept
            return dataset, frame

    def read(self, decoded: tuple[Dataset, Frame]) -> _ReadFrame:
        dataset, frame = decoded
        with self.profile.stage("reading", background=True):
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
    worker: Worker,
) -> None:
    """Run the model on frames in order, and pass each on to the background thread that scores."""
    profile, model = reader.profile, reader.model

    def score(read: _ReadFrame, prediction: ImagePrediction | None) -> None:
        if prediction is None:
            return add(read, None)
        from anomaly.models.views import scoring_stream

        with scoring_stream(prediction):
            add(read, prediction)

    def ask(group: Sequence[_ReadFrame]) -> Sequence[ImagePrediction | None]:
        if model is None:
            return [None] * len(group)
        from anomaly.models.views import predict_batch

        return predict_batch(model, inference, [each.inputs for each in group])

    reading: dict[str, Any] = {"decode": reader.decode, "threads": decoding_threads(model)}
    shown = show(visits, reader.read, ask, **reading, shape=_shape, batch=inference.batch, profile=profile)
    with closing(shown) as frames:
        for read, prediction in frames:
            with profile.stage("scores"):
                worker.submit(score, read, prediction)


def _shape(read: _ReadFrame) -> Any:
    return None if read.inputs is None else read.inputs.shape


def _visits(
    datasets: Sequence[Dataset], shares: Mapping[str, Sequence[int]]
) -> tuple[list[tuple[Dataset, int]], dict[str, list[tuple[Dataset, int]]]]:
    """The frames of this process: the first ones of all datasets, and the others by dataset."""
    first, rest = [], {}
    for dataset in datasets:
        early = first_frames(len(dataset))
        first += [(dataset, i) for i in shares[dataset.name] if i in early]
        rest[dataset.name] = [(dataset, i) for i in shares[dataset.name] if i not in early]
    return first, rest


def chosen_on_it(measured: str, chosen: str, frames: Sequence[str]) -> str:
    """The message for a dataset that has images on which the threshold was chosen."""
    return (
        f"{measured}: expected images on which no threshold was chosen, found {len(frames)} of {chosen}, "
        f"such as frame {frames[0]!r}; choose the threshold on other images, or leave {measured} out"
    )


def _check_apart(threshold: Threshold, name: str, frame: Frame) -> None:
    """Refuse an image on which a threshold was chosen, and another dataset of the calibration dataset's name."""
    if frame.image_hash in threshold.images:
        if threshold.dataset != name:
            raise InputError(chosen_on_it(name, threshold.dataset, [frame.id]))
    elif threshold.images and threshold.dataset == name:
        raise InputError(
            f"{name}: expected the images of the calibration dataset of the same name, found another image, frame "
            f"{frame.id!r}; give the two datasets different names"
        )


def _check_used(what: str, given: Iterable[str], used: Sequence[str]) -> None:
    """Refuse entries that would have no effect, because their name is not evaluated."""
    if unused := sorted(set(given) - set(used)):
        raise InputError(f"{what}: expected names of {', '.join(used)}, found {unused[0]!r}; correct it")
