"""Scores of a frame on a GPU: split by label and sorted there, so that only sorted runs and a few numbers cross over.

All values are bit for bit those that NumPy computes. torch is imported when a function is called.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly.frames import ANOMALY, IGNORE, KNOWN, as_array, as_score, check_label
from anomaly.metrics.functional.curve import Scores
from anomaly.metrics.measured import FrameCounts
from anomaly.metrics.repeats import FrameKey, sample_places

if TYPE_CHECKING:
    from torch import Tensor


def split_sorted(frame_id: str, name: str, score: Tensor, label: Any) -> tuple[Scores, Scores, FrameKey]:
    """Split the scores of a frame by label and sort them, on the device of the scores.

    The device is waited for twice, and only the sorted scores and about 2000 numbers are copied from it.

    Args:
        frame_id: Name of the frame, for messages.
        name: Name of the score, for messages.
        score: Score of each pixel, a tensor of any real type. Shape: ``(H, W)``.
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel: an array, or a tensor on the same device. Shape:
            ``(H, W)``.

    Returns:
        The ascending scores of the known pixels ``(N,)`` and of the anomaly pixels ``(P,)``, float32 or float64 as
        :func:`anomaly.frames.as_score` chooses it, with 0.0 in place of -0.0; and the key of the frame.

    Raises:
        InputError: The shapes differ, a score is not finite or not real, or a label has another value.
    """
    import torch

    with torch.inference_mode():
        label = beside(label, score, frame_id)
        shape = tuple(label.shape)
        exact = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # whole numbers have checks of their own
        if tuple(score.shape) != shape or score.dtype not in exact:
            score = torch.from_numpy(as_score(frame_id, name, score, shape)).to(score.device)
        values = score.reshape(-1)
        values = values if values.dtype == torch.float64 else values.float()
        kinds = label.reshape(-1)
        counts = FrameCounts(*torch.stack([(kinds == kind).sum() for kind in (KNOWN, ANOMALY, IGNORE)]).tolist())
        if sum(counts) != len(kinds):
            check_label(frame_id, as_array(frame_id, "label", label))
        last = (kinds != KNOWN).to(torch.uint8) + ((kinds != KNOWN) & (kinds != ANOMALY))  # known, anomaly, ignored
        order = last.sort(stable=True).indices[: counts.known + counts.anomaly]
        known, anomaly = (values[order] + 0.0).split([counts.known, counts.anomaly])  # -0.0, which equals 0.0, is 0.0
        places = _places(shape, score.device)
        sampled, labels = values[places], kinds[places].to(values.dtype)
        finite = values.isfinite().all().to(values.dtype)[None]
        parts = [known.sort().values, anomaly.sort().values, sampled, labels, finite]
        found = torch.cat(parts).cpu().numpy()
    if not found[-1]:
        as_score(frame_id, name, score, shape)  # says what is wrong
    known_scores, anomaly_scores, sample, of_sample, _ = np.split(found, np.cumsum([len(part) for part in parts[:-1]]))
    key = FrameKey.of_sample(counts, shape, of_sample.copy(), sample.copy())  # which do not keep the runs in memory
    return known_scores, anomaly_scores, key


def ends(score: Tensor, label: Any) -> tuple[float, float] | None:
    """Compute the smallest and the largest score of the pixels that are not ignored; None if all are.

    Args:
        score: Score of each pixel, finite. Shape: ``(H, W)``.
        label: Label of each pixel, an array or a tensor on the same device. Shape: ``(H, W)``.
    """
    import torch

    with torch.inference_mode():
        counted = beside(label, score) != IGNORE
        low, high = (torch.where(counted, score, end) for end in (torch.inf, -torch.inf))
        least, most = torch.stack([low.amin(), high.amax()]).tolist()
    return (least, most) if least <= most else None


def beside(label: Any, score: Any, frame_id: str = "") -> Tensor:
    """Bring a label map to the device of a score map; a tensor that is there already stays as it is.

    Args:
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape: ``(H, W)``.
        score: A tensor on that device.
        frame_id: Name of the frame, for messages.

    Returns:
        The label map, uint8. Shape: ``(H, W)``.

    Raises:
        InputError: A label has another value.
    """
    import torch

    if isinstance(label, torch.Tensor) and label.device == score.device:
        return label
    array = as_array(frame_id, "label", label)
    check_label(frame_id, array)
    return torch.tensor(array.astype(np.uint8, copy=False), device=score.device)


@lru_cache(maxsize=16)
def _places(shape: tuple[int, ...], device: Any) -> Tensor:
    import torch

    return torch.from_numpy(sample_places(shape)).to(device)
