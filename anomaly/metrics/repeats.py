"""Detection of repeated frames, and of different frames with the same name.

Names may collide, and a call of ``reset()`` may be forgotten.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, as_frame_id, check_label
from anomaly.metrics.measured import FrameCounts

SAMPLE = 1024  # largest number of pixels compared per frame
RUN = 8  # adjacent pixels per run, which are read from memory together
TOLERANCE = 1e-2  # allowed difference between two passes over a frame, relative to the scores' standard deviation
ROUNDING = 1e-6  # allowed relative rounding error of a score in float32


class Sample(NamedTuple):
    """Summary of sampled pixels of a frame.

    Args:
        label: Checksum of the label's shape and sampled values.
        mean: Mean of the sampled scores.
        std: Standard deviation of the sampled scores.
    """

    label: int
    mean: float
    std: float

    def same_scores(self, other: Sample) -> bool:
        """Return whether the scores may be those of the same frame."""
        within = TOLERANCE * max(self.std, other.std) + ROUNDING * max(abs(self.mean), abs(other.mean))
        return abs(self.mean - other.mean) <= within and abs(self.std - other.std) <= within


class FrameKey:
    """Key that distinguishes a frame from others of the same name.

    The summary of the sample is computed on first use, which is rare; until then the sampled pixels are kept.

    Args:
        counts: Pixel counts of the frame.
        sample: Summary of sampled pixels; ``None`` in states of earlier versions.
    """

    def __init__(self, counts: FrameCounts, sample: Sample | None) -> None:
        self.counts = counts
        self._sample = sample
        self._taken: tuple[tuple[int, ...], npt.NDArray[Any], npt.NDArray[Any]] | None = None

    @classmethod
    def of(cls, counts: FrameCounts, score: npt.NDArray[Any], label: npt.NDArray[Any]) -> FrameKey:
        """Make the key of a frame.

        Args:
            counts: Pixel counts of the frame.
            score: Scores. Shape ``(H, W)`` or ``(H * W,)``.
            label: Labels. Shape ``(H, W)``.
        """
        places = sample_places(label.shape)
        labels, scores = (
            each.reshape(-1)[places] if each.flags.c_contiguous else each.flat[places] for each in (label, score)
        )
        return cls.of_sample(counts, label.shape, labels, scores)

    @classmethod
    def of_sample(
        cls, counts: FrameCounts, shape: tuple[int, ...], label: npt.NDArray[Any], score: npt.NDArray[Any]
    ) -> FrameKey:
        """Make the key of a frame from its pixels at :func:`sample_places`.

        Args:
            counts: Pixel counts of the frame.
            shape: Shape ``(H, W)`` of the frame.
            label: Labels of these pixels. Shape ``(S,)``.
            score: Scores of these pixels. Shape ``(S,)``.
        """
        key = cls(counts, None)
        key._taken = shape, label, score
        return key

    @property
    def sample(self) -> Sample | None:
        """Summary of the sampled pixels; ``None`` if it is unknown."""
        if self._taken is not None:
            self._sample, self._taken = _summed(*self._taken), None
        return self._sample


def _summed(shape: tuple[int, ...], label: npt.NDArray[Any], score: npt.NDArray[Any]) -> Sample:
    checksum = zlib.crc32(label.astype(np.uint8).tobytes(), zlib.crc32(repr(shape).encode()))
    scores = score[label != IGNORE].astype(np.float64)
    if not scores.size:
        return Sample(checksum, 0.0, 0.0)
    largest = float(np.abs(scores).max()) or 1.0
    scores /= largest  # so that no square overflows
    return Sample(checksum, float(scores.mean()) * largest, float(scores.std()) * largest)


@lru_cache(maxsize=16)
def sample_places(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the indices of the pixels to sample, row by row: all, or short runs spread evenly over the frame."""
    size, width = math.prod(shape), shape[-1] if shape else 1
    if size <= SAMPLE:
        return np.arange(size)
    run, at = min(RUN, width), np.arange(SAMPLE // RUN)
    rows = at * (size // width) // at.size
    columns = at * 40503 % 65536 * (width - run + 1) // 65536  # multiples of the golden ratio, for an even spread
    places: npt.NDArray[np.int64] = ((rows * width + columns)[:, None] + np.arange(run)).ravel()
    return places


def count_label(frame_id: str, label: npt.NDArray[Any]) -> FrameCounts:
    """Count the known, anomaly and ignored pixels; raise ``InputError`` if a label has another value."""
    counts = FrameCounts(*(int(np.count_nonzero(label == value)) for value in (KNOWN, ANOMALY, IGNORE)))
    if sum(counts) != label.size:
        check_label(frame_id, label)
    return counts


class FrameKeys:
    """Keys of the frames added so far, by their ids."""

    def __init__(self) -> None:
        self._keys: dict[str, FrameKey] = {}

    def repeats(self, frame_id: str, key: FrameKey) -> bool:
        """Return whether a frame was added before.

        Raises:
            InputError: A different frame of the same name was added before.
        """
        if frame_id not in self._keys:
            return False
        if fault := _fault(self._keys[frame_id], key):
            raise InputError(f"frame {frame_id!r} was seen before with {fault}; {_REMEDY}")
        return True

    def add(self, frame_id: str, key: FrameKey) -> None:
        """Add the key of a frame."""
        self._keys[frame_id] = key

    def check(self, other: FrameKeys) -> None:
        """Raise ``InputError`` if both have different frames of the same name."""
        for frame_id in self._keys.keys() & other._keys.keys():
            if fault := _fault(self._keys[frame_id], other._keys[frame_id]):
                raise InputError(f"cannot merge: frame {frame_id!r} is in both parts, with {fault}; {_REMEDY}")

    def take(self, other: FrameKeys, among: Container[str] | None = None) -> None:
        """Add the keys of other frames.

        Args:
            other: The keys to add.
            among: Add only frames in this container; ``None`` adds all.
        """
        for frame_id, key in other._keys.items():
            mine = self._keys.get(frame_id)
            if (mine is None or mine.sample is None) and (among is None or frame_id in among):
                self._keys[frame_id] = key

    def record(self) -> dict[str, list[float]]:
        """Return the samples by frame, in the order of their ids, as values that JSON can hold."""
        return {frame_id: list(key.sample) for frame_id, key in sorted(self._keys.items()) if key.sample is not None}

    @property
    def counts(self) -> dict[str, FrameCounts]:
        """Pixel counts of each frame, by its id."""
        return {frame_id: key.counts for frame_id, key in self._keys.items()}

    def state(self) -> dict[str, Any]:
        """Return the ids, the pixel counts and the samples of the frames, as values that JSON can hold."""
        return {"frames": [[frame_id, *counts] for frame_id, counts in self.counts.items()], "keys": self.record()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> FrameKeys:
        """Make keys from the output of :meth:`state`; other entries are not read.

        Raises:
            ValueError: The state is not valid; ``KeyError``, ``TypeError`` or ``AttributeError`` if it has another
                structure.
        """
        frames = {as_frame_id(frame_id): FrameCounts(*counts) for frame_id, *counts in state["frames"]}
        for frame_id, counts in frames.items():
            if any(type(count) is not int or count < 0 for count in counts):
                raise ValueError(f"frame {frame_id!r} has the pixel counts {list(counts)}")
        if len(frames) != len(state["frames"]) or frames.keys() != state["keys"].keys():
            raise ValueError("a frame occurs twice, or has no key")
        return cls.of(frames, state["keys"])

    @classmethod
    def of(cls, counts: dict[str, FrameCounts], record: Any) -> FrameKeys:
        """Make keys from the output of :meth:`record`.

        Args:
            counts: Pixel counts of each frame.
            record: Output of :meth:`record`.

        Raises:
            ValueError: The record is not valid; ``TypeError`` or ``AttributeError`` if it has another structure.
        """
        keys = cls()
        samples = {name: Sample(int(label), float(mean), float(std)) for name, (label, mean, std) in record.items()}
        for sample in samples.values():
            if not (math.isfinite(sample.mean) and 0 <= sample.std < math.inf):
                raise ValueError(f"the scores of a frame have the mean {sample.mean} and the deviation {sample.std}")
        for frame_id, count in counts.items():
            keys.add(frame_id, FrameKey(count, samples.get(frame_id)))
        return keys

    def __contains__(self, frame_id: str) -> bool:
        return frame_id in self._keys

    def __iter__(self) -> Iterator[FrameKey]:
        return iter(self._keys.values())


_REMEDY = (
    "if these are two frames, give each its own name, such as its path; if it is the same frame with scores of another "
    "state of the network, call reset() between the two passes"
)


def _fault(one: FrameKey, other: FrameKey) -> str:
    """Describe the difference between two keys; empty if they may belong to the same frame."""
    if one.counts != other.counts or (one.sample and other.sample and one.sample.label != other.sample.label):
        return f"another label ({_pixels(one.counts)}, now {_pixels(other.counts)})"
    if one.sample and other.sample and not one.sample.same_scores(other.sample):
        both = ", now ".join(f"{each.mean:.6g} +- {each.std:.3g}" for each in (one.sample, other.sample))
        return f"other scores ({both})"
    return ""


def _pixels(counts: FrameCounts) -> str:
    return f"{counts.known} known, {counts.anomaly} anomalous, {counts.ignored} ignored pixels"
