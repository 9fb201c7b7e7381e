"""Closed-set mIoU on a validation set that has anomalous pixels too."""

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
    """mmseg's ``IoUMetric`` on the known pixels alone, each frame once.

    ``IoUMetric`` leaves out one label value. Any other that is no class, such as that of anomalies, it counts against
    the classes predicted there: the union grows, and the IoU falls without a word. This one leaves out both, and
    refuses the rest.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels, as they come out of the pipeline.
        ignore_index: The value to ignore, as of ``IoUMetric``.
        images: Only frames whose ``img_path`` matches this pattern count.
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
        """Add the frames of a batch; see mmseg's ``IoUMetric``.

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
        """Measure the frames of all processes; a frame that a sampler repeats counts once by its ``img_path``.

        Raises:
            InputError: No frame was seen, or two frames have one ``img_path``; on every process.
        """
        figures: dict[str, Any] = super().evaluate(sys.maxsize)  # so that none is taken for a repeated one
        for value in figures.values():
            if isinstance(value, str):
                raise InputError(value)
        return figures

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Give mmseg's figures, in percent, rounded to two decimals; or what is wrong, which only process 0 can see."""
        try:
            return self._figures(results)
        except InputError as error:
            return {"fault": str(error)}

    def _figures(self, results: list[Any]) -> dict[str, float]:
        if not results:
            raise InputError(
                f"ClosedSetIoUMetric: expected frames whose img_path matches {self.images!r}, found none; correct "
                "images=..., or the data set"
            )
        frames: dict[str, Any] = {}
        for frame, areas in results:
            if not _same(frames.setdefault(frame, areas), areas):
                raise InputError(
                    f"frame {frame!r} was seen twice, with another label or prediction; give every frame an "
                    "img_path of its own, and call evaluate() before process() sees another state of the network"
                )
        figures: dict[str, float] = super().compute_metrics(list(frames.values()))
        return figures


def _same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """Whether areas (intersection, union, prediction, label) may be of one frame, computed in another batch."""
    pixels = float(one[3].sum())
    return torch.equal(one[3], other[3]) and bool(((one[2] - other[2]).abs() <= TOLERANCE * pixels).all())
