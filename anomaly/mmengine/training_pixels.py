"""One pass of a network over training images, for scores that learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from mmseg.datasets import BaseSegDataset
from torch import Tensor

from anomaly.datasets.images import read_image
from anomaly.errors import InputError
from anomaly.frames import image_hash
from anomaly.models.mmseg import MMSegModel
from anomaly.models.tiling import Inference, ViewPrediction
from anomaly.scores.sample import PixelSample, draw_pixels, join


def sample_pixels(
    detector: MMSegModel,
    inference: Inference,
    dataset: BaseSegDataset,
    *,
    images: int,
    pixels: int,
    generator: torch.Generator,
    ignored: int = 255,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[PixelSample, list[str]]:
    """Show some labelled images to a network, and draw pixels of every class.

    Args:
        detector: The network.
        inference: How it looks; mirror images and other scales are left out.
        dataset: Images and labels, prepared as for testing.
        images: How many, drawn at random; more than there are means all.
        pixels: Most pixels in all: evenly split over images, and in each over the classes that occur there. Each
            of these has one at least, unless they are more than the image's share; then some are drawn.
        generator: Draws images and pixels; of the CPU.
        ignored: Label of pixels to leave out.
        on_frame: Called after each image.

    Returns:
        The pixels, and :func:`anomaly.scores.statistics.image_hash` of every image.

    Raises:
        InputError: Fewer pixels than images, other classes than the network's, an image that cannot be read,
            a label out of range, or what the network says is not finite.
    """
    classes = len(dataset.metainfo["classes"])
    inference = replace(inference, flip=False, scales=(1.0,))
    chosen = torch.randperm(len(dataset), generator=generator)[:images].tolist()
    if pixels < len(chosen):
        raise InputError(
            f"expected at least one pixel of each of the {len(chosen)} images, found {pixels}; ask for more "
            "pixels, or for fewer images"
        )
    parts, hashes = [], []
    for index in chosen:
        path = Path(dataset.get_data_info(index)["img_path"])
        image = read_image(path)
        hashes.append(image_hash(image))
        labels = _labels(dataset, index, path, classes, ignored)
        inputs = detector.prepare(image)[None]
        looks = inference.look(detector, inputs)
        for look in looks:
            _check(look, classes, path)
        labels = _resized(labels, (inputs.shape[2], inputs.shape[3]))
        owners, views = _owners(looks, labels), []
        for i, look in enumerate(looks):
            views.append((look.prediction, _at_features(torch.where(owners == i, labels, -1), look)))
        parts += draw_pixels(views, pixels // len(chosen), generator)
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


def _check(look: ViewPrediction, classes: int, path: Path) -> None:
    logits = look.prediction.logits
    if logits.shape[1] != classes:
        raise InputError(
            f"the network has {logits.shape[1]} classes and the training data {classes}; give the config it was "
            "trained with"
        )
    if not logits.isfinite().all():
        raise InputError(f"the network's logits of {path} are not finite; its checkpoint is broken, give another")


def _owners(looks: Sequence[ViewPrediction], labels: Tensor) -> Tensor:
    """Which view each pixel is taken from: of those that have it, the one whose border is farthest. ``(H, W)``."""
    farthest, owners = torch.zeros(labels.shape), torch.zeros_like(labels)
    for i, look in enumerate(looks):
        down, across = (_depth(length) for length in look.view.part)
        depth = torch.minimum(down[:, None], across)
        window = (look.view.rows, look.view.columns)
        owners[window] = torch.where(depth > farthest[window], i, owners[window])
        farthest[window] = torch.maximum(depth, farthest[window])
    return owners


def _depth(length: int) -> Tensor:
    """Distance of each pixel's middle to the nearer end. Shape ``(length,)``."""
    place = torch.arange(length) + 0.5
    return torch.minimum(place, length - place)


def _at_features(labels: Tensor, look: ViewPrediction) -> Tensor:
    """Labels of a view at the resolution of its prediction, padding -1. Shape ``(H, W)`` -> ``(h, w)``."""
    part = labels[look.view.rows, look.view.columns]
    height, width = look.prediction.covers or part.shape
    part = F.pad(part, (0, width - part.shape[1], 0, height - part.shape[0]), value=-1)
    return _resized(part, (look.prediction.logits.shape[2], look.prediction.logits.shape[3]))


def _resized(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at another resolution: of a cell that of its middle. Shape ``(H, W)`` -> ``size``, int64."""
    return F.interpolate(labels[None, None].float(), size, mode="nearest-exact")[0, 0].long()
