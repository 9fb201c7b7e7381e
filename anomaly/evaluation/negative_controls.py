"""Scores that know nothing, through the same evaluation as any other: if they look good, the evaluation is broken."""

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
    """What a score that knows nothing reached on a set, as fractions.

    Args:
        dataset: Name of the set.
        name: Which score: ``random``, ``constant``, or one of the image against ``shuffled labels``.
        auroc: What it reached; 0.5 is nothing.
        ap: Likewise; the anomalous share of the pixels is nothing.
        share: That share, of the labels as they are read, not as the evaluation counts them.
        auroc_range: Lowest and highest AUROC that chance allows (:mod:`anomaly.evaluation.chance`); both 0.5 for a
            constant.
        ap_range: Lowest and highest AP that chance allows; both the share for a constant.
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
        """Whether it knows as little as it should, in both directions."""
        return not self.fault

    @property
    def fault(self) -> str:
        """Which bound was left, in percent; empty where none was."""
        faults = []
        for name, value, (low, high) in (("AUROC", self.auroc, self.auroc_range), ("AP", self.ap, self.ap_range)):
            if not low - _ROUNDING * low <= value <= high + _ROUNDING * high:  # NaN is no figure either
                side = f"above {100 * high:.6g}" if value > high else f"below {100 * low:.6g}"
                faults.append(f"{name} {100 * value:.6g} is {side}")
        return " and ".join(faults)


@dataclass(frozen=True)
class _Counted(Dataset):
    """A set whose known and anomaly pixels are counted, by frame, as they are read."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self, i: int) -> tuple[Frame, npt.NDArray[np.int64]]:
        frame, values = super().read(i)
        return self._counted(frame), values

    def _counted(self, frame: Frame) -> Frame:
        self.counts[frame.id] = (int((frame.label == KNOWN).sum()), int((frame.label == ANOMALY).sum()))
        return frame

    @property
    def total(self) -> tuple[int, int]:
        """Known and anomaly pixels of the frames that were read."""
        return sum(known for known, _ in self.counts.values()), sum(anomaly for _, anomaly in self.counts.values())


@dataclass(frozen=True)
class _Shuffled(_Counted):
    """A set whose anomalies lie on pixels drawn from all of the set's: where a random number is below ``threshold``."""

    threshold: float = 0.0
    seed: int = 0

    def read(self, i: int) -> tuple[Frame, npt.NDArray[np.int64]]:
        frame, values = Dataset.read(self, i)
        label = frame.label.copy()
        counted = label != IGNORE
        label[counted] = _keys(frame.id, int(counted.sum()), self.seed) < self.threshold
        return self._counted(replace(frame, label=label, class_label=None)), values


class _Store:
    """Score maps made when they are asked for."""

    def __init__(self, dataset: Dataset, make: Callable[[Dataset, int], ScoreMap]) -> None:
        self._split, self._make = dataset, make
        self._places = {files.id: place for place, files in enumerate(dataset.files)}

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        return frame_id in self._places

    def read(self, name: str, frame_id: str) -> ScoreMap:
        return self._make(self._split, self._places[frame_id])


def negative_controls(
    datasets: Sequence[Dataset], *, seed: int = 0, on_frame: Callable[[], None] | None = None
) -> list[Control]:
    """Measure three scores that know nothing on every set, by :func:`anomaly.evaluation.evaluator.evaluate`.

    ``random``: uniform noise; ``constant``: one value; and the brightness of the image against labels that were
    shuffled over the pixels of the whole set (within frames they would still tell frames apart).

    An evaluation without a fault fails a control less often than twice in a million.

    Args:
        datasets: The sets.
        seed: Another one draws other noise and other labels.
        on_frame: Called after each frame of each control.

    Raises:
        InputError: As :func:`anomaly.evaluation.evaluator.evaluate`.
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
    figures = result.scores[name].values
    known, anomaly = dataset.total
    share = anomaly / (known + anomaly)
    ranges = (auroc_range(known, anomaly), ap_range(known, anomaly))
    if name == CONSTANT:
        ranges = ((0.5, 0.5), (share, share))
    return Control(dataset.name, name, figures["auroc"], figures["ap"], share, *ranges)


def _threshold(dataset: _Counted, seed: int) -> float:
    """The share of anomalies, so that as many are expected; moved where not one or all pixels would be below it."""
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
