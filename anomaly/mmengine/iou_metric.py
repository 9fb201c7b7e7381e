"""Closed-set mIoU on a validation dataset that also has anomalous pixels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from mmseg.evaluation import IoUMetric

from anomaly.errors import InputError
from anomaly.frames import KNOWN
from anomaly.metrics.repeats import TOLERANCE
from anomaly.mmengine.samples import LabelReader, Sample, frame_id, label_values
from anomaly.registry import METRICS


@METRICS.register_module()
class ClosedSetIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` on the known pixels only, with each frame counted once.

    ``IoUMetric`` ignores one label value. Every other value that is no class, such as that of anomalies, counts against
    the classes predicted there: the union grows, and the IoU decreases silently. This metric ignores both values, and
    refuses all others.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels as labels leave the pipeline.
        ignore_index: Label value to ignore, as in ``IoUMetric``.
        images: Pattern; only frames with a matching ``img_path`` count.
        **kwargs: Other arguments of ``IoUMetric``.

    Raises:
        InputError: A label value is not in 0..255, or has two meanings.
    """

    def __init__(
        self, anomaly_index: int | Sequence[int], *, ignore_index: int = 255, images: str = "*", **kwargs: Any
    ) -> None:
        super().__init__(ignore_index=ignore_index, **kwargs)
        self.images = images
        self._labels = LabelReader(anomaly_index, ignore_index, None)

    def process(self, data_batch: Any, data_samples: Sequence[Sample]) -> None:
        """Add the frames of a batch, as mmseg's ``IoUMetric`` does.

        Raises:
            InputError: A sample has no path or no label, or a label value has no meaning.
        """
        for sample in data_samples:
            frame = frame_id(sample)
            if fnmatchcase(frame, self.images):
                known = self._labels.read(sample, self.dataset_meta["classes"]) == KNOWN
                label = torch.from_numpy(np.where(known, label_values(sample), self.ignore_index))
                super().process(data_batch, [{**sample, "gt_sem_seg": {"data": label[None]}}])
                self.results[-1:] = [(frame, areas) for areas in self.results[-1:]]

    def evaluate(self, size: int) -> dict[str, float]:
        """Measure the frames of all processes. A frame that a sampler repeats counts once, by its ``img_path``.

        Raises:
            InputError: There are no frames, or two frames have the same ``img_path``; raised on every process.
        """
        found: dict[str, Any] = super().evaluate(sys.maxsize)  # so that no frame counts as a repeated one
        for value in found.values():
            if isinstance(value, str):
                raise InputError(value)
        return found

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Return mmseg's metrics in percent, rounded to two decimals, or the fault, which only process 0 can detect."""
        try:
            return self._measured(results)
        except InputError as error:
            return {"fault": str(error)}

    def _measured(self, results: list[Any]) -> dict[str, float]:
        if not results:
            raise InputError(
                f"ClosedSetIoUMetric: expected frames whose img_path matches {self.images!r}, found none; correct "
                "images=..., or the dataset"
            )
        frames: dict[str, Any] = {}
        for frame, areas in results:
            if not _same(frames.setdefault(frame, areas), areas):
                raise InputError(
                    f"frame {frame!r} was seen twice, with another label or prediction; give every frame its own "
                    "img_path, and call evaluate() before process() gets predictions of other weights"
                )
        found: dict[str, float] = super().compute_metrics(list(frames.values()))
        return found


def _same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """Whether areas (intersection, union, prediction, label) may be of the same frame in another batch."""
    pixels = float(one[3].sum())
    return torch.equal(one[3], other[3]) and bool(((one[2] - other[2]).abs() <= TOLERANCE * pixels).all())
