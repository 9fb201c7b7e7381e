"""Scores that know nothing, through the same evaluation as any other: if they look good, the evaluation is broken."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.split import Split
from anomaly.evaluator import evaluate
from anomaly.labels import IGNORE, Frame, Score
from anomaly.scores.table import stored_scores

DEVIATIONS = 6.0
RANDOM, CONSTANT, SHUFFLED = "random", "constant", "shuffled labels"


@dataclass(frozen=True)
class Control:
    """What a score that knows nothing reached on a set.

    Args:
        set: Name of the set.
        name: Which score: ``random``, ``constant``, or one of the photograph against ``shuffled labels``.
        auroc: What it reached; 0.5 is nothing.
        ap: Likewise; the anomalous share of the pixels is nothing.
        share: That share.
        margin: How far AUROC may lie from 0.5 by chance: six standard deviations, 0 for a constant.
    """

    set: str
    name: str
    auroc: float
    ap: float
    share: float
    margin: float

    @property
    def passed(self) -> bool:
        """Whether it knows as little as it should, in both directions.

        AP is held to the share by twice the margin of AUROC, relatively: for pixels drawn at random it varies no more.
        """
        near = abs(self.auroc - 0.5) <= self.margin + 1e-12
        return near and abs(self.ap / self.share - 1.0) <= 4.0 * self.margin + 1e-9


@dataclass(frozen=True)
class _Shuffled(Split):
    """A set whose anomalies lie on pixels drawn from all of the set's, as many as there are."""

    share: float = 0.0

    def read(self, i: int) -> tuple[Frame, npt.NDArray[np.int64]]:
        frame, counts = super().read(i)
        label = frame.label.copy()
        counted = label != IGNORE
        label[counted] = _draws(frame.id, "labels").random(np.count_nonzero(counted)) < self.share
        return replace(frame, label=label, class_label=None), counts


class _Store:
    """Score maps made when they are asked for."""

    def __init__(self, split: Split, make: Callable[[Split, int], Score]) -> None:
        self._split, self._make = split, make
        self._places = {files.id: place for place, files in enumerate(split.files)}

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        return frame_id in self._places

    def read(self, name: str, frame_id: str) -> Score:
        return self._make(self._split, self._places[frame_id])


def negative_controls(splits: Sequence[Split], *, on_frame: Callable[[], None] | None = None) -> list[Control]:
    """Measure three scores that know nothing on every set, by :func:`anomaly.evaluator.evaluate`.

    ``random``: uniform noise; ``constant``: one value; and the brightness of the photograph against labels that were
    shuffled over the pixels of the whole set (within frames they would still tell frames apart).

    Args:
        splits: The sets.
        on_frame: Called after each frame of each control.

    Raises:
        InputError: As :func:`anomaly.evaluator.evaluate`.
    """
    found = []
    for split in splits:
        share = math.nan
        for name, make in ((RANDOM, _noise), (CONSTANT, _zeros), (SHUFFLED, _brightness)):
            subject = split
            if name == SHUFFLED:
                subject = _Shuffled(**{**vars(split), "every_frame": False}, share=share)
            (result,) = evaluate(
                None,
                [subject],
                stored_scores([name]),
                stores={split.name: _Store(split, make)},
                on_frame=None if on_frame is None else lambda _: on_frame(),
            )
            score = result.scores[name]
            known, anomaly = score.known_pixels, score.anomaly_pixels
            share = anomaly / (known + anomaly)
            margin = 0.0 if name == CONSTANT else DEVIATIONS * math.sqrt((known + anomaly + 1) / (12 * known * anomaly))
            found.append(Control(split.name, name, score.figures["auroc"], score.figures["ap"], share, margin))
    return found


def _draws(frame_id: str, purpose: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(f"{purpose}:{frame_id}".encode()).digest()))


def _noise(split: Split, i: int) -> Score:
    return _draws(split.files[i].id, "noise").random(split.image(i).shape[:2], np.float32)


def _zeros(split: Split, i: int) -> Score:
    return np.zeros(split.image(i).shape[:2], np.float32)


def _brightness(split: Split, i: int) -> Score:
    return cv2.cvtColor(split.image(i), cv2.COLOR_RGB2GRAY).astype(np.float32)
