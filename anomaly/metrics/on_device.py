"""Scores of a frame on a GPU: split by label and sorted there, so that only sorted runs and a few numbers cross over.

All values are bit for bit those that NumPy computes. torch is imported when a function is called.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anomaly.frames import ANOMALY, IGNORE, KNOWN, as_array, as_score, check_label
from anomaly.metrics.functional import curve
from anomaly.metrics.functional.curve import Scores, Tally
from anomaly.metrics.measured import FrameCounts
from anomaly.metrics.repeats import FrameKey, sample_places

if TYPE_CHECKING:
    from torch import Tensor


class LabelOnDevice:
    """The label map of a frame on a GPU, and what all scores of the frame need of it, which is computed once.

    Args:
        values: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape: ``(H, W)``.
        frame_id: Name of the frame, for messages.
    """

    def __init__(self, values: Tensor, frame_id: str = "") -> None:
        self.values = values
        self._frame_id = frame_id

    @cached_property
    def counts(self) -> FrameCounts:
        """Number of pixels of each kind. Raises ``InputError`` if a label has another value."""
        import torch

        kinds = self.values.reshape(-1)
        counts = FrameCounts(*torch.stack([(kinds == kind).sum() for kind in (KNOWN, ANOMALY, IGNORE)]).tolist())
        if sum(counts) != len(kinds):
            check_label(self._frame_id, as_array(self._frame_id, "label", self.values))
        return counts

    @cached_property
    def order(self) -> Tensor:
        """Indices of the known pixels, then of the anomaly pixels. Shape: ``(N + P,)``, int64."""
        import torch

        kinds = self.values.reshape(-1)
        last = (kinds != KNOWN).to(torch.uint8) + ((kinds != KNOWN) & (kinds != ANOMALY))  # known, anomaly, ignored
        return last.sort(stable=True).indices[: self.counts.known + self.counts.anomaly]


def split_sorted(frame_id: str, name: str, score: Tensor, label: Any) -> tuple[Scores, Scores, FrameKey]:
    """Split the scores of a frame by label and sort them, on the device of the scores.

    Only the sorted scores and about 2000 numbers are copied from the device, which is waited for once, and once more
    for each label.

    Args:
        frame_id: Name of the frame, for messages.
        name: Name of the score, for messages.
        score: Score of each pixel, a tensor of any real type. Shape: ``(H, W)``.
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel: an array, a tensor on the same device, or the output
            of :func:`beside`. Shape: ``(H, W)``.

    Returns:
        The ascending scores of the known pixels ``(N,)`` and of the anomaly pixels ``(P,)``, float32 or float64 as
        :func:`anomaly.frames.as_score` chooses it, with 0.0 in place of -0.0; and the key of the frame.

    Raises:
        InputError: The shapes differ, a score is not finite or not real, or a label has another value.
    """
    import torch

    with torch.inference_mode():
        label = beside(label, score, frame_id)
        shape = tuple(label.values.shape)
        exact = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # whole numbers have checks of their own
        if tuple(score.shape) != shape or score.dtype not in exact:
            score = torch.from_numpy(as_score(frame_id, name, score, shape)).to(score.device)
        values = score.reshape(-1)
        values = values if values.dtype == torch.float64 else values.float()
        counts = label.counts
        known, anomaly = (values[label.order] + 0.0).split([counts.known, counts.anomaly])  # -0.0, which is 0.0, is 0.0
        places = _places(shape, score.device)
        sampled, labels = values[places], label.values.reshape(-1)[places].to(values.dtype)
        finite = values.isfinite().all().to(values.dtype)[None]
        parts = [known.sort().values, anomaly.sort().values, sampled, labels, finite]
        found = _copied(torch.cat(parts))
    if not found[-1]:
        as_score(frame_id, name, score, shape)  # says what is wrong
    known_scores, anomaly_scores, sample, of_sample, _ = np.split(found, np.cumsum([len(part) for part in parts[:-1]]))
    key = FrameKey.of_sample(counts, shape, of_sample.copy(), sample.copy())  # which do not keep the runs in memory
    return known_scores, anomaly_scores, key


def ends(score: Tensor, label: Any) -> tuple[float, float] | None:
    """Compute the smallest and the largest score of the pixels that are not ignored; None if all are.

    Args:
        score: Score of each pixel, finite. Shape: ``(H, W)``.
        label: Label of each pixel, as for :func:`split_sorted`. Shape: ``(H, W)``.
    """
    import torch

    with torch.inference_mode():
        counted = beside(label, score).values != IGNORE
        low, high = (torch.where(counted, score, end) for end in (torch.inf, -torch.inf))
        least, most = torch.stack([low.amin(), high.amax()]).tolist()
    return (least, most) if least <= most else None


def beside(label: Any, score: Any, frame_id: str = "") -> LabelOnDevice:
    """Bring a label map to the device of a score map; what is there already stays as it is.

    Args:
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, or the output of this function. Shape: ``(H, W)``.
        score: A tensor on that device.
        frame_id: Name of the frame, for messages.

    Raises:
        InputError: An array of another type than uint8 holds another value; the counts of the label tell the rest.
    """
    import torch

    if isinstance(label, LabelOnDevice):
        return label
    if isinstance(label, torch.Tensor) and label.device == score.device:
        return LabelOnDevice(label, frame_id)
    array = as_array(frame_id, "label", label)
    if array.dtype != np.uint8:  # others could lose a value that the device would refuse
        check_label(frame_id, array)
    return LabelOnDevice(torch.tensor(array.astype(np.uint8, copy=False), device=score.device), frame_id)


def tally(known: Scores, anomaly: Scores, device: Any) -> Tally:
    """Count what :func:`anomaly.metrics.functional.curve.tally` counts on a device, or with it if that has no room.

    Args:
        known: Scores of known pixels, in any order, without ``-0.0``; may be sorted in place. Shape: ``(N',)``.
        anomaly: Scores of anomaly pixels, in any order, without ``-0.0``; may be sorted in place. Shape: ``(P',)``.
        device: The device.
    """
    import torch

    try:
        with torch.inference_mode():
            own, other = (torch.from_numpy(scores).to(device) for scores in (anomaly, known))
            thresholds, hits = own.unique(return_counts=True)
            kind = torch.promote_types(own.dtype, other.dtype)
            ascending, searched = other.sort().values.to(kind), thresholds.to(kind)
            below = torch.searchsorted(ascending, searched)
            ties = torch.searchsorted(ascending, searched, right=True) - below
            return Tally(_copied(thresholds), *_copied(torch.stack([hits, below, ties])))
    except torch.OutOfMemoryError:
        return curve.tally(known, anomaly)


def _copied(values: Tensor) -> npt.NDArray[Any]:
    """Copy a tensor to memory of NumPy, whose large pages take less time to fill for the first time than torch's."""
    import torch

    found = np.empty(tuple(values.shape), torch.empty(0, dtype=values.dtype).numpy().dtype)
    torch.from_numpy(found).copy_(values)
    return found


@lru_cache(maxsize=16)
def _places(shape: tuple[int, ...], device: Any) -> Tensor:
    import torch

    return torch.from_numpy(sample_places(shape)).to(device)
