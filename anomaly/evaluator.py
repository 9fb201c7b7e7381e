"""From a detector and evaluation sets to numbers: one forward pass per frame, whatever the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from anomaly.background import Worker, read_ahead
from anomaly.datasets.fingerprint import Fingerprint
from anomaly.datasets.split import Split
from anomaly.detectors import Detector, Prediction
from anomaly.errors import InputError
from anomaly.labels import ANOMALY, KNOWN, Frame
from anomaly.labels import Score as ScoreMap
from anomaly.measures import Calibration, Measures, ScoreMetrics
from anomaly.metrics.calibration import Threshold, choose_threshold
from anomaly.profile import Profile
from anomaly.result import SetResult
from anomaly.score_store import ScoreWriter
from anomaly.scores.table import SCORES, Score
from anomaly.visualize.writer import PanelWriter


class Store(Protocol):
    """Where score maps are: :class:`anomaly.score_store.StoredScores`, or a writer of them."""

    def has(self, frame_id: str, names: Iterable[str]) -> bool:
        """Whether these scores of a frame are there."""
        ...

    def read(self, name: str, frame_id: str) -> npt.NDArray[Any]:
        """Read one map. Shape: ``(H, W)``."""
        ...


LOOK = 4  # frames of each set that the colour scales of the pictures are taken from


def evaluate(
    detector: Detector | None,
    splits: Sequence[Split],
    scores: Sequence[Score],
    *,
    stores: Mapping[str, Store] | None = None,
    measures: Measures | None = None,
    pictures: PanelWriter | None = None,
    on_frame: Callable[[str], None] | None = None,
    profile: Profile | None = None,
) -> list[SetResult]:
    """Measure every score on every set, pooling all pixels of a set.

    The detector runs once per frame. Score maps are computed at the prediction's resolution, then resized
    bilinearly to the label. Reading ahead, scoring and pictures have a background thread each. Visited first
    are four evenly spaced frames of each set, from which ``pictures`` takes its colour scales; the order
    changes no number.

    Args:
        detector: The network; None where all scores are stored.
        splits: The sets; their names are distinct.
        scores: At least one; their names are distinct.
        stores: By set, where score maps are: a frame whose scores are all there is not shown to the detector. What a
            :class:`anomaly.score_store.ScoreWriter` lacks is written to it.
        measures: What to measure beside the pixel metrics.
        pictures: Draws a panel of each frame.
        on_frame: Called with the set's name after each frame.
        profile: Gets the seconds spent in each stage.

    Returns:
        One result per split, in their order.

    Raises:
        InputError: A score needs what the detector does not give (found before a frame is read), a frame
            cannot be read, a score is NaN or infinite, or a set has no anomalous or no known pixel.
    """
    check_scores(scores, detector)
    profile, measures = profile or Profile(), (measures or Measures()).shared_by(len(splits) * len(scores))
    first, rest = _visits(splits)
    stores = stores or {}
    classes = () if detector is None else detector.classes
    runs = {
        split.name: _SetRun(split, scores, stores.get(split.name), measures, classes, pictures, profile)
        for split in splits
    }

    def add(worker: Worker, visited: int, name: str, frame: Frame, prediction: Prediction | None) -> None:
        worker.submit(runs[name].add, frame, prediction)
        if pictures is not None and visited == len(first):
            worker.submit(pictures.fix_scales)

    def stored(name: str, frame: Frame) -> bool:
        return runs[name].stored(frame)

    _visit(detector, first + rest, stored, add, on_frame, profile)
    if pictures is not None:
        with profile.stage("pictures"):
            pictures.finish()
    return [runs[split.name].result for split in splits]


def calibrate(
    detector: Detector | None,
    calibration: Calibration,
    scores: Sequence[Score],
    *,
    store: Store | None = None,
    measures: Measures | None = None,
    on_frame: Callable[[str], None] | None = None,
    profile: Profile | None = None,
) -> dict[str, Threshold]:
    """Choose a threshold for every score on one set, to be measured on others as ``Measures.thresholds``.

    Args:
        detector: The network; None where all scores are stored.
        calibration: The set and the rule.
        scores: At least one; their names are distinct.
        store: As in :func:`evaluate`, of the set.
        measures: How much memory the scores may take.
        on_frame: Called with the set's name after each frame.
        profile: Gets the seconds spent in each stage.

    Raises:
        InputError: As :func:`evaluate`, or the set has not the pixels that the rule needs.
    """
    check_scores(scores, detector)
    profile, measures = profile or Profile(), (measures or Measures()).shared_by(len(scores))
    split = calibration.split
    metrics = {score.name: measures.pixel_metrics(score.name, split.name) for score in scores}

    names = [score.name for score in scores]

    def update(frame: Frame, prediction: Prediction | None) -> None:
        for name, score in _frame_maps(frame, prediction, scores, store).items():
            metrics[name].update(frame.id, score, frame.label)

    def add(worker: Worker, visited: int, name: str, frame: Frame, prediction: Prediction | None) -> None:
        worker.submit(update, frame, prediction)

    def stored(name: str, frame: Frame) -> bool:
        return store is not None and store.has(frame.id, names)

    _visit(detector, [(split, i) for i in range(len(split))], stored, add, on_frame, profile)
    return {name: choose_threshold(each, calibration.rule, calibration.level) for name, each in metrics.items()}


def check_scores(scores: Sequence[Score], detector: Detector | None) -> None:
    """Raise ``InputError``, naming the scores that would work, if ``detector`` cannot serve them all."""
    if detector is None:
        return
    for score in scores:
        if score.needs not in detector.gives:
            fit = ", ".join(name for name, other in SCORES.items() if other.needs in detector.gives)
            raise InputError(
                f"score {score.name!r} needs the network's {score.needs}, and this network gives only "
                f"{', '.join(sorted(detector.gives))}; the scores that work with it are {fit}"
            )


def score_maps(prediction: Prediction, scores: Sequence[Score]) -> dict[str, ScoreMap]:
    """Compute scores at the prediction's resolution. Shape: ``(h, w)`` float32 per name."""
    with torch.inference_mode():
        return {
            score.name: score.function(getattr(prediction, score.needs)[None])[0].float().cpu().numpy()
            for score in scores
        }


def _frame_maps(
    frame: Frame, prediction: Prediction | None, scores: Sequence[Score], store: Store | None
) -> dict[str, ScoreMap]:
    """A frame's scores at its label's size: computed, or read from the store where there is no prediction."""
    if prediction is not None:
        maps = {name: resize_score(score, frame.label.shape) for name, score in score_maps(prediction, scores).items()}
        if isinstance(store, ScoreWriter):
            for name, score in maps.items():
                store.write(frame.id, name, score)
        return maps
    if store is None:
        raise InputError(f"frame {frame.id!r}: expected a network or stored scores, found neither; give one of them")
    maps = {score.name: store.read(score.name, frame.id) for score in scores}
    for name, stored in maps.items():
        if stored.shape != frame.label.shape:
            (h, w), (height, width) = stored.shape, frame.label.shape
            raise InputError(
                f"frame {frame.id!r}: expected a {name} map of the label's size, {width}x{height}, found {w}x{h} "
                "(width x height); resize the scores (never the labels) before, and say in their settings how"
            )
    return maps


def resize_score(score: ScoreMap, size: tuple[int, int]) -> ScoreMap:
    """Resize a ``(h, w)`` map to ``size = (H, W)``: bilinearly, pixel centres at half integers."""
    if score.shape == size:
        return score
    return cv2.resize(score, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def classify(prediction: Prediction, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Give each pixel's class, logits first resized bilinearly to ``size = (H, W)``, as mmseg does it. ``(H, W)``."""
    with torch.inference_mode():
        logits = functional.interpolate(prediction.logits[None], size, mode="bilinear", align_corners=False)
        return logits[0].argmax(0).cpu().numpy()


class _SetRun:
    """One set's scores and metrics while its frames come in, in any order; ``result`` is there after the last.

    Only the worker thread adds frames.
    """

    result: SetResult

    def __init__(
        self,
        split: Split,
        scores: Sequence[Score],
        store: Store | None,
        measures: Measures,
        classes: tuple[str, ...],
        pictures: PanelWriter | None,
        profile: Profile,
    ) -> None:
        self._split = split
        self._scores = scores
        self._store = store
        self._pictures = pictures
        self._profile = profile
        self._metrics = {score.name: ScoreMetrics(score.name, split, measures, classes) for score in scores}
        self._left = len(split)
        self._fingerprint = Fingerprint()
        self._seen = {KNOWN: False, ANOMALY: False}

    def stored(self, frame: Frame) -> bool:
        """Whether the frame's scores can be read, and nothing else is needed of the network."""
        return self._store is not None and not self._needs_classes and self._store.has(frame.id, list(self._metrics))

    @property
    def _needs_classes(self) -> bool:
        return any(metric.needs_classes for metric in self._metrics.values())

    def add(self, frame: Frame, prediction: Prediction | None) -> None:
        with self._profile.stage("scores", background=True):
            maps = _frame_maps(frame, prediction, self._scores, self._store)
        with self._profile.stage("metrics", background=True):
            classes = None
            if prediction is not None and self._needs_classes:
                classes = classify(prediction, frame.label.shape)
            for name, metric in self._metrics.items():
                metric.update(frame, maps[name], classes)
            self._fingerprint.add(frame.id, frame.label)
            for value in self._seen:
                self._seen[value] |= bool((frame.label == value).any())
        if self._pictures is not None:
            self._pictures.add(self._split.name, frame, maps)
        self._left -= 1
        if self._left == 0:
            with self._profile.stage("metrics", background=True):
                self.result = self._compute()
            self._metrics.clear()

    def _compute(self) -> SetResult:
        for value, word in ((ANOMALY, "anomalous"), (KNOWN, "known")):
            if not self._seen[value]:
                raise InputError(
                    f"{self._split.name}: expected known and anomalous pixels, found not one {word} pixel "
                    f"in {len(self._split)} frames of {self._split.root}; evaluate more frames (a higher "
                    "--limit, or none), or check that these are the set's labels"
                )
        scores = {name: metric.result() for name, metric in self._metrics.items()}
        split = self._split
        return SetResult(
            *(split.name, len(split), split.layout, scores),
            version=split.version,
            fingerprint=self._fingerprint.hexdigest(),
            published_frames=split.published or 0,
            notes=list(split.notes),
        )


def _visit(
    detector: Detector | None,
    visits: Sequence[tuple[Split, int]],
    stored: Callable[[str, Frame], bool],
    add: Callable[[Worker, int, str, Frame, Prediction | None], None],
    on_frame: Callable[[str], None] | None,
    profile: Profile,
) -> None:
    """Run the detector on frames, one after the other, and hand each on with its number, from 1, and its set's name."""
    with closing(read_ahead(partial(_read, profile), visits)) as frames, Worker() as worker:
        for visited, (name, frame) in enumerate(_timed(frames, profile), start=1):
            with profile.stage("forward"):
                prediction = None if detector is None or stored(name, frame) else _predict(detector, frame)
            with profile.stage("scores"):
                add(worker, visited, name, frame, prediction)
            if on_frame is not None:
                on_frame(name)
        with profile.stage("metrics"):
            worker.finish()


def _visits(splits: Sequence[Split]) -> tuple[list[tuple[Split, int]], list[tuple[Split, int]]]:
    """Frames to look at first (evenly spaced in every set), and all others."""
    first, rest = [], []
    for split in splits:
        look = {round(i) for i in np.linspace(0, len(split) - 1, LOOK)}
        first += [(split, i) for i in sorted(look)]
        rest += [(split, i) for i in range(len(split)) if i not in look]
    return first, rest


def _read(profile: Profile, visit: tuple[Split, int]) -> tuple[str, Frame]:
    split, i = visit
    with profile.stage("reading", background=True):
        return split.name, split.frame(i)


def _timed(frames: Iterator[tuple[str, Frame]], profile: Profile) -> Iterator[tuple[str, Frame]]:
    """Hand on the frames, counting the wait for each as ``reading``."""
    while True:
        with profile.stage("reading"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _predict(detector: Detector, frame: Frame) -> Prediction:
    with torch.inference_mode():
        prediction = detector(frame.image)
    if prediction.logits.is_cuda:
        torch.cuda.synchronize(prediction.logits.device)
    return prediction
