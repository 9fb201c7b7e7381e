"""One pass of a network over training photographs, for scores that learn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from mmseg.datasets import BaseSegDataset
from torch import Tensor

from anomaly.datasets.images import read_image
from anomaly.errors import InputError
from anomaly.inference import Inference, Look
from anomaly.integrations.mmseg_detector import MMSegDetector
from anomaly.scores.sample import PixelSample, draw_pixels, join
from anomaly.scores.statistics import image_hash


def sample_pixels(
    detector: MMSegDetector,
    inference: Inference,
    dataset: BaseSegDataset,
    *,
    photographs: int,
    pixels: int,
    generator: torch.Generator,
    ignored: int = 255,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[PixelSample, list[str]]:
    """Show some labelled photographs to a network, and draw pixels of every class.

    Args:
        detector: The network.
        inference: How it looks; mirror images and other scales are left out.
        dataset: Photographs and labels, prepared as for testing.
        photographs: How many, drawn at random; more than there are means all.
        pixels: Most pixels in all, about as many of each class in each photograph.
        generator: Draws photographs and pixels; of the CPU.
        ignored: Label of pixels to leave out.
        on_frame: Called after each photograph.

    Returns:
        The pixels, and :func:`anomaly.scores.statistics.image_hash` of every photograph.

    Raises:
        InputError: Other classes than the network's, a photograph that cannot be read, a label out of range, or what
            the network says is not finite.
    """
    classes = len(dataset.metainfo["classes"])
    inference = replace(inference, flip=False, scales=(1.0,))
    chosen = torch.randperm(len(dataset), generator=generator)[:photographs].tolist()
    most = max(1, pixels // (len(chosen) * classes))
    parts, hashes = [], []
    for index in chosen:
        path = Path(dataset.get_data_info(index)["img_path"])
        image = read_image(path)
        hashes.append(image_hash(image))
        labels = _labels(dataset, index, path, classes, ignored)
        inputs = detector.prepare(image)[None]
        labels = F.interpolate(labels[None, None].float(), inputs.shape[2:])[0, 0].long()
        for look in inference.look(detector, inputs):
            if look.prediction.logits.shape[1] != classes:
                raise InputError(
                    f"the network has {look.prediction.logits.shape[1]} classes and the training data {classes}; give "
                    "the config it was trained with"
                )
            if not look.prediction.logits.isfinite().all():
                raise InputError(
                    f"the network's logits of {path} are not finite; its checkpoint is broken, give another"
                )
            parts.append(draw_pixels(look.prediction, _at_features(labels, look), most, generator))
        on_frame()
    return replace(join(parts), linear=detector.linear), hashes


def _labels(dataset: BaseSegDataset, index: int, path: Path, classes: int, ignored: int) -> Tensor:
    """Class of every pixel, -1 where there is none. Shape ``(H, W)``, int64."""
    try:
        labels: Tensor = dataset[index]["data_samples"].gt_sem_seg.data[0].long()
    except (OSError, AssertionError, AttributeError) as error:  # mmcv's reader raises any of these
        raise InputError(
            f"training data: expected a label map of {path} that can be read, found: {error}; copy it again"
        ) from error
    labels = torch.where(labels == ignored, -1, labels)
    if undefined := labels[(labels < -1) | (labels >= classes)].unique().tolist():
        raise InputError(
            f"label of {path}: expected classes 0 to {classes - 1} and {ignored} (ignored), found also {undefined}; "
            "give labels in the class ids of the network"
        )
    return labels


def _at_features(labels: Tensor, look: Look) -> Tensor:
    """Labels of a view at the resolution of its prediction, padding -1. Shape ``(H, W)`` -> ``(h, w)``."""
    part = labels[look.view.rows, look.view.columns]
    height, width = look.prediction.covers or part.shape
    part = F.pad(part, (0, width - part.shape[1], 0, height - part.shape[0]), value=-1)
    return F.interpolate(part[None, None].float(), look.prediction.logits.shape[2:])[0, 0].long()
