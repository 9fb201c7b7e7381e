"""Whether a frame that comes again is the frame that was seen: names may collide, and a reset may be forgotten."""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.labels import ANOMALY, IGNORE, KNOWN, check_label
from anomaly.metrics.measured import FrameCounts

SAMPLE = 4096  # pixels of a frame that are looked at, evenly spaced
TOLERANCE = 1e-2  # of the scores' spread: by so much the same frame may differ, computed in another batch
ROUNDING = 1e-6  # of a score, in float32


class Sample(NamedTuple):
    """What some pixels of a frame tell: a checksum of its label's shape and values, and its scores' mean and spread."""

    label: int
    mean: float
    std: float

    def same_scores(self, other: Sample) -> bool:
        """Whether the scores may be those of the same frame."""
        within = TOLERANCE * max(self.std, other.std) + ROUNDING * max(abs(self.mean), abs(other.mean))
        return abs(self.mean - other.mean) <= within and abs(self.std - other.std) <= within


class FrameKey(NamedTuple):
    """What tells a frame from another of its name; of a state of an earlier version the sample is missing."""

    counts: FrameCounts
    sample: Sample | None


def frame_key(counts: FrameCounts, score: npt.NDArray[Any], label: npt.NDArray[Any]) -> FrameKey:
    """Make the key of a frame. Shape: score and label ``(H, W)``."""
    step = max(1, -(-label.size // SAMPLE))
    while math.gcd(step, label.shape[-1] if label.ndim else 1) > 1:  # so that no column is looked at alone
        step += 1
    values, scores = label.flat[::step], score.flat[::step]
    scores = scores[values != IGNORE].astype(np.float64)
    largest = float(np.abs(scores).max(initial=0)) or 1.0
    scores /= largest  # so that no square is infinite
    mean, std = (float(scores.mean()) * largest, float(scores.std()) * largest) if scores.size else (0.0, 0.0)
    return FrameKey(counts, Sample(zlib.crc32(values.astype(np.uint8).tobytes(), hash_shape(label.shape)), mean, std))


def hash_shape(shape: tuple[int, ...]) -> int:
    """A checksum of an array's shape."""
    return zlib.crc32(repr(shape).encode())


def count_label(frame_id: str, label: npt.NDArray[Any]) -> FrameCounts:
    """Count the pixels of each kind. Raises ``InputError`` where a label has another value."""
    counts = FrameCounts(*(int(np.count_nonzero(label == value)) for value in (KNOWN, ANOMALY, IGNORE)))
    if sum(counts) != label.size:
        check_label(frame_id, label)
    return counts


class FrameKeys:
    """The keys of the frames seen, by their ids."""

    def __init__(self) -> None:
        self._keys: dict[str, FrameKey] = {}

    def repeats(self, frame_id: str, key: FrameKey) -> bool:
        """Whether a frame was seen before, as a padded sampler shows it.

        Raises:
            InputError: A frame of its name was seen, but another one.
        """
        if frame_id not in self._keys:
            return False
        if fault := _fault(self._keys[frame_id], key):
            raise InputError(f"frame {frame_id!r} was seen before with {fault}; {_WAYS}")
        return True

    def add(self, frame_id: str, key: FrameKey) -> None:
        """Remember a frame."""
        self._keys[frame_id] = key

    def check(self, other: FrameKeys) -> None:
        """Raise ``InputError`` unless frames of one name are the same here and there."""
        for frame_id in self._keys.keys() & other._keys.keys():
            if fault := _fault(self._keys[frame_id], other._keys[frame_id]):
                raise InputError(f"cannot merge: frame {frame_id!r} is in both parts, with {fault}; {_WAYS}")

    def take(self, other: FrameKeys, among: Container[str] | None = None) -> None:
        """Remember the frames of others too, or only those among some."""
        for frame_id, key in other._keys.items():
            mine = self._keys.get(frame_id)
            if (mine is None or mine.sample is None) and (among is None or frame_id in among):
                self._keys[frame_id] = key

    def record(self) -> dict[str, list[float]]:
        """The samples by frame, as JSON can hold them."""
        return {frame_id: list(key.sample) for frame_id, key in self._keys.items() if key.sample is not None}

    @classmethod
    def of(cls, counts: dict[str, FrameCounts], record: Any) -> FrameKeys:
        """Make keys of what :meth:`record` gave. Raises ``ValueError`` and the like where it is not that."""
        keys = cls()
        samples = {name: Sample(int(label), float(mean), float(std)) for name, (label, mean, std) in record.items()}
        for sample in samples.values():
            if not (math.isfinite(sample.mean) and 0 <= sample.std < math.inf):
                raise ValueError(f"a frame's scores with the mean {sample.mean} and the spread {sample.std}")
        for frame_id, count in counts.items():
            keys.add(frame_id, FrameKey(count, samples.get(frame_id)))
        return keys

    def __contains__(self, frame_id: str) -> bool:
        return frame_id in self._keys

    def __iter__(self) -> Iterator[FrameKey]:
        return iter(self._keys.values())


_WAYS = (
    "if these are two frames, give each a name of its own, such as its path; if it is the same frame with scores of "
    "another state of the network, call reset() between the two passes"
)


def _fault(one: FrameKey, other: FrameKey) -> str:
    """In what two keys differ; nothing where they may be of the same frame."""
    if one.counts != other.counts or (one.sample and other.sample and one.sample.label != other.sample.label):
        return f"another label ({_pixels(one.counts)}, and now {_pixels(other.counts)})"
    if one.sample and other.sample and not one.sample.same_scores(other.sample):
        found = ", and now ".join(f"{each.mean:.6g} +- {each.std:.3g}" for each in (one.sample, other.sample))
        return f"other scores ({found})"
    return ""


def _pixels(counts: FrameCounts) -> str:
    return f"{counts.known} known, {counts.anomaly} anomalous, {counts.ignored} ignored pixels"
