"""Whether a frame that comes again is the frame that was seen: names may collide, and a reset may be forgotten."""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, check_label
from anomaly.metrics.measured import FrameCounts

SAMPLE = 1024  # pixels of a frame that are looked at, at most
RUN = 8  # of these so many lie side by side, as they come from memory together
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


class FrameKey:
    """What tells a frame from another of its name; of a state of an earlier version the sample is missing.

    What the sample tells is worked out when it is asked for, as it seldom is: until then the sample itself is kept.
    """

    def __init__(self, counts: FrameCounts, sample: Sample | None) -> None:
        self.counts = counts
        self._sample = sample
        self._taken: tuple[tuple[int, ...], npt.NDArray[Any], npt.NDArray[Any]] | None = None

    @classmethod
    def of(cls, counts: FrameCounts, score: npt.NDArray[Any], label: npt.NDArray[Any]) -> FrameKey:
        """Make the key of a frame. Shape: score and label ``(H, W)``; score may be flat."""
        key, places = cls(counts, None), sample_places(label.shape)
        values, scores = (
            each.reshape(-1)[places] if each.flags.c_contiguous else each.flat[places] for each in (label, score)
        )
        key._taken = label.shape, values, scores
        return key

    @property
    def sample(self) -> Sample | None:
        """What some pixels tell."""
        if self._taken is not None:
            self._sample, self._taken = _summed(*self._taken), None
        return self._sample


def _summed(shape: tuple[int, ...], label: npt.NDArray[Any], score: npt.NDArray[Any]) -> Sample:
    checksum = zlib.crc32(label.astype(np.uint8).tobytes(), zlib.crc32(repr(shape).encode()))
    scores = score[label != IGNORE].astype(np.float64)
    if not scores.size:
        return Sample(checksum, 0.0, 0.0)
    largest = float(np.abs(scores).max()) or 1.0
    scores /= largest  # so that no square is infinite
    return Sample(checksum, float(scores.mean()) * largest, float(scores.std()) * largest)


@lru_cache(maxsize=16)
def sample_places(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Pixels, numbered row after row, that stand for a frame: all, or short runs spread evenly over it."""
    size, width = math.prod(shape), shape[-1] if shape else 1
    if size <= SAMPLE:
        return np.arange(size)
    run, at = min(RUN, width), np.arange(SAMPLE // RUN)
    rows = at * (size // width) // at.size
    columns = at * 40503 % 65536 * (width - run + 1) // 65536  # multiples of the golden ratio, the most even of all
    places: npt.NDArray[np.int64] = ((rows * width + columns)[:, None] + np.arange(run)).ravel()
    return places


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
