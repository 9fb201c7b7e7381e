"""Negative controls: if an uninformative score looks good in the usual evaluation, the evaluation is broken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.dataset import Dataset
from anomaly.evaluation.callbacks import ProgressCallback
from anomaly.evaluation.chance import ap_range, auroc_range
from anomaly.evaluation.evaluator import evaluate
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Frame, ScoreMap
from anomaly.scores.registry import stored_scores

RANDOM, CONSTANT, SHUFFLED = "random", "constant", "shuffled labels"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Control:
    """The metrics of an uninformative score on a dataset, as fractions in 0..1.

    Args:
        dataset: Name of the dataset.
        name: Which score: ``random``, ``constant``, or brightness of the image against ``shuffled labels``.
        auroc: Its AUROC; 0.5 means uninformative.
        ap: Its AP; ``share`` means uninformative.
        share: Share of anomalous pixels, counted in the labels as they are read, independent of the evaluation.
        auroc_range: Lower and upper bound of AUROC by chance (:mod:`anomaly.evaluation.chance`); both 0.5 for a
            constant score.
        ap_range: Lower and upper bound of AP by chance; both ``share`` for a constant score.
    """

    dataset: str
    name: str
    auroc: float
    ap: float
    share: float
    auroc_range: tuple[float, float]
    ap_range: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether AUROC and AP lie within their bounds."""
        return not self.fault

    @property
    def fault(self) -> str:
        """Which bound was exceeded, in percent; empty if none was."""
        faults = []
        for name, value, (low, high) in (("AUROC", self.auroc, self.auroc_range), ("AP", self.ap, self.ap_range)):
            if not low - _ROUNDING * low <= value <= high + _ROUNDING * high:  # NaN fails too
                side = f"above {100 * high:.6g}" if value > high else f"below {100 * low:.6g}"
                faults.append(f"{name} {100 * value:.6g} is {side}")
        return " and ".join(faults)


@dataclass(frozen=True)
class _Counted(Dataset):
    """A dataset that counts its known and anomalous pixels, by frame, as they are read."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self, i: int) -> tuple[Frame, npt.NDArray[np.int64]]:
        frame, values = super().read(i)
        return self._counted(frame), values

    def _counted(self, frame: Frame) -> Frame:
        self.counts[frame.id] = (int((frame.label == KNOWN).sum()), int((frame.label == ANOMALY).sum()))
        return frame

    @property
    def total(self) -> tuple[int, int]:
        """Known and anomalous pixels of the frames that were read."""
        return sum(known for known, _ in self.counts.values()), sum(anomaly for _, anomaly in self.counts.values())


@dataclass(frozen=True)
class _Shuffled(_Counted):
    """A dataset with random anomalies: those of all its pixels whose random number is below ``threshold``."""

    threshold: float = 0.0
    seed: int = 0

    def read(self, i: int) -> tuple[Frame, npt.NDArray[np.int64]]:
        frame, values = Dataset.read(self, i)
        label = frame.label.copy()
        counted = label != IGNORE
        label[counted] = _keys(frame.id, int(counted.sum()), self.seed) < self.threshold
        return self._counted(replace(frame, label=label, class_label=None)), values


class _Store:
    """A store that computes score maps on request."""

    def __init__(self, dataset: Dataset, make: Callable[[Dataset, int], ScoreMap]) -> None:
        self._dataset, self._make = dataset, make
        self._places = {files.id: place for place, files in enumerate(dataset.files)}

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        return frame_id in self._places

    def read(self, name: str, frame_id: str) -> ScoreMap:
        return self._make(self._dataset, self._places[frame_id])


def negative_controls(
    datasets: Sequence[Dataset], *, seed: int = 0, on_frame: Callable[[], None] | None = None
) -> list[Control]:
    """Measure three uninformative scores on every dataset with :func:`anomaly.evaluation.evaluator.evaluate`.

    ``random`` is uniform noise, ``constant`` a single value. The third is the brightness of the image against labels
    that are shuffled over the pixels of the whole dataset (shuffled within frames, they would still distinguish
    frames).

    A correct evaluation fails a control with a probability below two in a million.

    Args:
        datasets: The datasets.
        seed: Seed of the noise and of the shuffled labels.
        on_frame: Called after each frame of each control.

    Raises:
        InputError: A frame cannot be read, or a dataset has no anomalous or no known pixel.
    """
    found = []
    for dataset in datasets:
        counted = _Counted(**vars(dataset))
        noise, brightness = _Store(dataset, lambda s, i: _noise(s, i, seed)), _Store(dataset, _brightness)
        found.append(_measure(counted, RANDOM, noise, on_frame))
        found.append(_measure(counted, CONSTANT, _Store(dataset, _zeros), on_frame))
        settings = {**vars(counted), "every_frame": False, "counts": {}}
        shuffled = _Shuffled(**settings, threshold=_threshold(counted, seed), seed=seed)
        found.append(_measure(shuffled, SHUFFLED, brightness, on_frame))
    return found


def _measure(dataset: _Counted, name: str, store: _Store, on_frame: Callable[[], None] | None) -> Control:
    (result,) = evaluate(
        None,
        [dataset],
        stored_scores([name]),
        stores={dataset.name: store},
        callbacks=[] if on_frame is None else [ProgressCallback(lambda name: on_frame())],
    )
    values = result.scores[name].values
    known, anomaly = dataset.total
    share = anomaly / (known + anomaly)
    ranges = (auroc_range(known, anomaly), ap_range(known, anomaly))
    if name == CONSTANT:
        ranges = ((0.5, 0.5), (share, share))
    return Control(dataset.name, name, values["auroc"], values["ap"], share, *ranges)


def _threshold(dataset: _Counted, seed: int) -> float:
    """The share of anomalies, moved if necessary so that at least one pixel, and not all, are below it."""
    known, anomaly = dataset.total
    lowest, highest = 1.0, 0.0
    for name, counts in dataset.counts.items():
        keys = _keys(name, sum(counts), seed)
        lowest, highest = keys.min(initial=lowest), keys.max(initial=highest)
    return float(np.clip(anomaly / (known + anomaly), np.nextafter(lowest, 1), highest))


def _keys(frame_id: str, count: int, seed: int) -> npt.NDArray[np.float64]:
    return _draws(frame_id, "labels", seed).random(count)


def _draws(frame_id: str, purpose: str, seed: int) -> np.random.Generator:
    name = f"{purpose}:{frame_id}" if seed == 0 else f"{purpose}:{seed}:{frame_id}"
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def _noise(dataset: Dataset, i: int, seed: int) -> ScoreMap:
    return _draws(dataset.files[i].id, "noise", seed).random(dataset.image(i).shape[:2], np.float32)


def _zeros(dataset: Dataset, i: int) -> ScoreMap:
    return np.zeros(dataset.image(i).shape[:2], np.float32)


def _brightness(dataset: Dataset, i: int) -> ScoreMap:
    return cv2.cvtColor(dataset.image(i), cv2.COLOR_RGB2GRAY).astype(np.float32)
