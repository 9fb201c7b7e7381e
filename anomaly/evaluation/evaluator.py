"""From a detector and evaluation sets to numbers: one forward pass per frame, whatever the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.fingerprint import Fingerprint
from anomaly.errors import InputError
from anomaly.evaluation.metrics import Calibration, MetricConfig, ScoreMetrics
from anomaly.evaluation.profile import Profile
from anomaly.evaluation.score_maps import NO_POST, ImagePrediction, Method, Store, check_scores
from anomaly.frames import ANOMALY, KNOWN, Frame
from anomaly.metrics.calibration import Threshold, choose_threshold
from anomaly.models.base import Model
from anomaly.models.tiling import Inference, ViewPrediction
from anomaly.postprocessing.table import Chain
from anomaly.report.views import ViewWriter
from anomaly.results.records import DatasetResult
from anomaly.scores.table import Score, check_not_learned
from anomaly.utils.background import Worker, read_ahead
from anomaly.utils.names import check_distinct
from anomaly.visualize.writer import PanelWriter

LOOK = 4  # frames of each set that the colour scales of the pictures are taken from


def evaluate(
    detector: Model | None,
    splits: Sequence[Dataset],
    scores: Sequence[Score],
    *,
    inference: Inference | None = None,
    post: Sequence[Chain] = NO_POST,
    check: Callable[[str, str], None] | None = None,
    stores: Mapping[str, Store] | None = None,
    measures: MetricConfig | None = None,
    pictures: PanelWriter | None = None,
    views: ViewWriter | None = None,
    on_frame: Callable[[str], None] | None = None,
    profile: Profile | None = None,
) -> list[DatasetResult]:
    """Measure every score on every set, pooling all pixels of a set.

    The detector runs once per view of a frame, whatever the scores. Score maps are resized bilinearly to the label,
    then post-processed. Reading ahead, scoring and pictures have a background thread each. Visited first are four
    evenly spaced frames of each set, from which ``pictures`` takes its colour scales; the order changes no number.

    Args:
        detector: The network; None where all scores are stored.
        splits: The sets; their names have to be distinct.
        scores: At least one; their names are distinct.
        inference: How the network looks at a image; once, and whole, by default.
        post: Chains of post-processing, each applied to every score; none by default.
        check: Called with each frame's name and :func:`anomaly.frames.image_hash`, stored or not; raises where it must
            not be evaluated.
        stores: By set, where score maps are: a frame whose scores are all there is not shown to the detector. What a
            :class:`anomaly.results.score_store.ScoreWriter` lacks, or has of another image, is written to it.
        measures: What to measure beside the pixel metrics.
        pictures: Draws a panel of each frame.
        views: Keeps what a report shows.
        on_frame: Called with the set's name after each frame.
        profile: Gets the seconds spent in each stage.

    Returns:
        One result per split, in their order.

    Raises:
        InputError: Two sets, or two scores with their post-processing, have one name; a threshold or a store is of a
            score or a set that is not evaluated; a score needs what the detector does not give (all of this is found
            before a frame is read); a frame cannot be read, or is one of the images that a threshold was chosen on or
            a score was fitted on; a
            score is NaN or infinite; or a set has no anomalous or no known pixel.
    """
    splits, scores, post = list(splits), list(scores), list(post)
    if not (splits and scores and post):
        raise InputError("expected datasets, scores and chains of post-processing, one each at least; found none")
    check_distinct((split.name for split in splits), "datasets", "evaluate them one by one, or rename one")
    check_scores(scores, detector)
    classes = () if detector is None else detector.classes
    method = Method(scores, inference or Inference(), post, classes)
    profile = profile or Profile()
    measures = measures or MetricConfig()
    measures = measures if views is None else replace(measures, curves=True)
    first, rest = _visits(splits)
    stores = stores or {}
    _check_used("stores", stores, [split.name for split in splits])
    _check_used("thresholds", measures.thresholds, method.names)
    without = [name for name in method.names if name not in measures.thresholds]
    if measures.components_at == "calibrated" and without:
        raise InputError(f"components_at='calibrated': expected a threshold of {without[0]}, found none; choose one")
    outputs = _Outputs(pictures, views, profile)
    runs = {split.name: _DatasetRun(split, method, stores.get(split.name), measures, outputs) for split in splits}

    def add(worker: Worker, visited: int, each: _Visited, seen: ImagePrediction | None) -> None:
        worker.submit(runs[each.set].add, each, seen)
        if pictures is not None and visited == len(first):
            worker.submit(pictures.fix_scales)

    def stored(name: str, frame: Frame) -> bool:
        return runs[name].stored(frame)

    reader = _Reader(detector, stored, check, profile, scores, tuple(measures.thresholds.values()))
    _visit(reader, method.inference, first + rest, add, on_frame)
    if pictures is not None:
        with profile.stage("pictures"):
            pictures.finish()
    return [runs[split.name].result for split in splits]


def calibrate(
    detector: Model | None,
    calibration: Calibration,
    scores: Sequence[Score],
    *,
    inference: Inference | None = None,
    post: Sequence[Chain] = NO_POST,
    check: Callable[[str, str], None] | None = None,
    store: Store | None = None,
    measures: MetricConfig | None = None,
    on_frame: Callable[[str], None] | None = None,
    profile: Profile | None = None,
) -> dict[str, Threshold]:
    """Choose a threshold for every score on one set, to be measured on others as ``MetricConfig.thresholds``.

    Args:
        detector: The network; None where all scores are stored.
        calibration: The set and the rule.
        scores: At least one; their names are distinct.
        inference: As in :func:`evaluate`.
        post: As in :func:`evaluate`.
        check: As in :func:`evaluate`.
        store: As in :func:`evaluate`, of the set.
        measures: How much memory the scores may take.
        on_frame: Called with the set's name after each frame.
        profile: Gets the seconds spent in each stage.

    Raises:
        InputError: As :func:`evaluate`, or the set has not the pixels that the rule needs.
    """
    check_scores(scores, detector)
    method = Method(scores, inference or Inference(), post, () if detector is None else detector.classes)
    profile, measures = profile or Profile(), measures or MetricConfig()
    split = calibration.split
    metrics = {name: measures.pixel_metrics(name, split.name) for name in method.names}
    images: set[str] = set()

    def update(each: _Visited, seen: ImagePrediction | None) -> None:
        frame = each.frame
        images.add(frame.image_hash)
        classes = method.classify(seen, frame.label.shape) if seen is not None and method.needs_classes else None
        for name, score in method.maps(frame, seen, store, classes).items():
            metrics[name].update(frame.id, score, frame.label)

    def add(worker: Worker, visited: int, each: _Visited, seen: ImagePrediction | None) -> None:
        worker.submit(update, each, seen)

    def stored(name: str, frame: Frame) -> bool:
        names = [score.name for score in scores]
        return store is not None and store.has(frame.id, names, frame.image_hash) and not method.needs_classes

    visits = [(split, i) for i in range(len(split))]
    _visit(_Reader(detector, stored, check, profile, scores), method.inference, visits, add, on_frame)
    chosen = {name: choose_threshold(each, calibration.rule, calibration.level) for name, each in metrics.items()}
    return {name: replace(threshold, images=frozenset(images)) for name, threshold in chosen.items()}


@dataclass(frozen=True)
class _Outputs:
    """Where frames go beside the metrics."""

    pictures: PanelWriter | None
    views: ViewWriter | None
    profile: Profile


class _DatasetRun:
    """One set's scores and metrics while its frames come in, in any order; ``result`` is there after the last.

    Only the worker thread adds frames.
    """

    result: DatasetResult

    def __init__(
        self,
        split: Dataset,
        method: Method,
        store: Store | None,
        measures: MetricConfig,
        outputs: _Outputs,
    ) -> None:
        self._split = split
        self._method = method
        self._store = store
        self._pictures, self._profile = outputs.pictures, outputs.profile
        self._views = None if outputs.views is None else outputs.views.open(split)
        self._metrics = {name: ScoreMetrics(name, split, measures, method.classes) for name in method.names}
        self._left = len(split)
        self._fingerprint = Fingerprint()
        self._images: dict[str, str] = {}
        self._seen = {KNOWN: False, ANOMALY: False}

    def stored(self, frame: Frame) -> bool:
        """Whether the frame's scores can be read, and nothing else is needed of the network."""
        names = [score.name for score in self._method.scores]
        asked = self._needs_classes or self._wants(frame)
        return self._store is not None and self._store.has(frame.id, names, frame.image_hash) and not asked

    @property
    def _needs_classes(self) -> bool:
        return self._method.needs_classes or any(metric.needs_classes for metric in self._metrics.values())

    def _wants(self, frame: Frame) -> bool:
        return self._views is not None and self._views.wants(frame.id)

    def add(self, each: _Visited, seen: ImagePrediction | None) -> None:
        frame = each.frame
        self._images[frame.id] = frame.image_hash
        with self._profile.stage("scores", background=True):
            classes = None
            if seen is not None and (self._needs_classes or self._wants(frame)):
                classes = self._method.classify(seen, frame.label.shape)
            maps = self._method.maps(frame, seen, self._store, classes)
        with self._profile.stage("metrics", background=True):
            for name, metric in self._metrics.items():
                metric.update(frame, maps[name], classes)
            self._fingerprint.add(frame.id, frame.label)
            for value in self._seen:
                self._seen[value] |= bool((frame.label == value).any())
        if self._pictures is not None:
            self._pictures.add(self._split.name, frame, maps)
        if self._views is not None and self._wants(frame):
            with self._profile.stage("report", background=True):
                size = (frame.label.shape[0], frame.label.shape[1])
                top_classes = None if seen is None else partial(self._method.top_classes, seen, size)
                self._views.add(frame, maps, classes, top_classes)
        self._left -= 1
        if self._left == 0:
            with self._profile.stage("metrics", background=True):
                self.result = self._compute()
            self._metrics.clear()

    def _compute(self) -> DatasetResult:
        for value, word in ((ANOMALY, "anomalous"), (KNOWN, "known")):
            if not self._seen[value]:
                raise InputError(
                    f"{self._split.name}: expected known and anomalous pixels, found not one {word} pixel "
                    f"in {len(self._split)} frames of {self._split.root}; evaluate more frames (a higher "
                    "--limit, or none), or check that these are the set's labels"
                )
        scores = {name: metric.result() for name, metric in self._metrics.items()}
        split = self._split
        result = DatasetResult(
            *(split.name, len(split), split.layout, scores),
            version=split.version,
            fingerprint=self._fingerprint.hexdigest(),
            published_frames=split.published or 0,
            notes=list(split.notes),
            images={frame: self._images[frame] for frame in sorted(self._images)},
        )
        if self._views is not None:
            curves = {name: metric.curves for name, metric in self._metrics.items() if metric.curves is not None}
            self._views.finish(result, self._method.classes, curves)
        return result


@dataclass(frozen=True)
class _Visited:
    """A frame that was read.

    Args:
        set: Name of its set.
        frame: The frame.
        inputs: The network's input of it; None where the network is not asked.
    """

    set: str
    frame: Frame
    inputs: Tensor | None


@dataclass(frozen=True)
class _Reader:
    """Reads frames in the background, and prepares those that the network is asked about."""

    detector: Model | None
    stored: Callable[[str, Frame], bool]
    check: Callable[[str, str], None] | None
    profile: Profile
    scores: Sequence[Score]
    thresholds: tuple[Threshold, ...] = ()

    def __call__(self, visit: tuple[Dataset, int]) -> _Visited:
        split, i = visit
        with self.profile.stage("reading", background=True):
            frame = split.frame(i)
            check_not_learned(self.scores, frame.id, frame.image_hash)
            if self.check is not None:
                self.check(frame.id, frame.image_hash)
            for threshold in self.thresholds:
                _check_apart(threshold, split.name, frame)
            if self.stored(split.name, frame) or self.detector is None:
                return _Visited(split.name, frame, None)
            return _Visited(split.name, frame, self.detector.prepare(frame.image))


def _visit(
    reader: _Reader,
    inference: Inference,
    visits: Sequence[tuple[Dataset, int]],
    add: Callable[[Worker, int, _Visited, ImagePrediction | None], None],
    on_frame: Callable[[str], None] | None,
) -> None:
    """Show frames to the detector in order, and hand each on with its number, from 1."""
    visited, profile = 0, reader.profile
    with closing(read_ahead(reader, visits, inference.batch + 2)) as frames, Worker() as worker:
        for group in _batches(_timed(frames, profile), inference.batch):
            with profile.stage("forward"):
                seen = _look(reader.detector, inference, [each.inputs for each in group])
            for each, found in zip(group, seen, strict=True):
                visited += 1
                with profile.stage("scores"):
                    add(worker, visited, each, found)
                if on_frame is not None:
                    on_frame(each.set)
        with profile.stage("metrics"):
            worker.finish()


def _batches(frames: Iterator[_Visited], most: int) -> Iterator[list[_Visited]]:
    """Put frames whose inputs have one size together, in order."""
    group: list[_Visited] = []
    for each in frames:
        if group and (len(group) >= most or _shape(each) != _shape(group[0])):
            yield group
            group = []
        group.append(each)
        if len(group) >= most:
            yield group
            group = []
    if group:
        yield group


def _shape(each: _Visited) -> Any:
    return None if each.inputs is None else each.inputs.shape


def _look(
    detector: Model | None, inference: Inference, inputs: Sequence[Tensor | None]
) -> list[ImagePrediction | None]:
    """Show inputs of one size to the network."""
    there = [each for each in inputs if each is not None]
    if detector is None or not there:
        return [None] * len(inputs)
    batch = torch.stack(there)
    looks = inference.look(detector, batch)
    if looks[0].prediction.logits.is_cuda:
        torch.cuda.synchronize(looks[0].prediction.logits.device)
    size = (batch.shape[2], batch.shape[3])
    return [
        ImagePrediction([ViewPrediction(look.view, look.prediction.of(i, i + 1)) for look in looks], size)
        for i in range(len(batch))
    ]


def _visits(splits: Sequence[Dataset]) -> tuple[list[tuple[Dataset, int]], list[tuple[Dataset, int]]]:
    """Frames to look at first (evenly spaced in every set), and all others."""
    first, rest = [], []
    for split in splits:
        look = {round(i) for i in np.linspace(0, len(split) - 1, LOOK)}
        first += [(split, i) for i in sorted(look)]
        rest += [(split, i) for i in range(len(split)) if i not in look]
    return first, rest


def _timed(frames: Iterator[_Visited], profile: Profile) -> Iterator[_Visited]:
    """Hand on the frames, counting the wait for each as ``reading``."""
    while True:
        with profile.stage("reading"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def chosen_on_it(measured: str, chosen: str, frames: Sequence[str]) -> str:
    """Say that a set has images that the threshold was chosen on."""
    return (
        f"{measured}: expected images that no threshold was chosen on, found {len(frames)} of {chosen}, such as frame "
        f"{frames[0]!r}; a threshold knows the labels of these: choose it on other images, or leave {measured} out"
    )


def _check_apart(threshold: Threshold, name: str, frame: Frame) -> None:
    """Refuse an image that a threshold was chosen on, and one of another set than that, but of its name."""
    if frame.image_hash in threshold.images:
        if threshold.set != name:
            raise InputError(chosen_on_it(name, threshold.set, [frame.id]))
    elif threshold.images and threshold.set == name:
        raise InputError(
            f"{name}: expected the images of the set of that name that the threshold was chosen on, found another, "
            f"frame {frame.id!r}; no threshold is applied to its own set, so give two datasets names that differ"
        )


def _check_used(what: str, given: Iterable[str], used: Sequence[str]) -> None:
    """Refuse what would do nothing, as it is of a name that is not evaluated."""
    if unused := sorted(set(given) - set(used)):
        raise InputError(f"{what}: expected names among {', '.join(used)}, found {unused[0]!r}; correct it")
