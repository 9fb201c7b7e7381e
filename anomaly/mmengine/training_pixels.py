"""Training images of a config, and one pass of a network over them to fit scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from torch import Tensor

from anomaly.datasets.images import read_image
from anomaly.errors import InputError
from anomaly.frames import image_hash
from anomaly.models.base import Prediction
from anomaly.models.loop import show
from anomaly.models.mmseg import MMSegModel
from anomaly.models.tiling import Inference
from anomaly.models.views import ImagePrediction, ViewPrediction, predict_inputs, resize_labels
from anomaly.scores.sample import PixelSample, draw_pixels, join
from anomaly.utils.processes import ALONE, Processes

_Views = tuple[tuple[str, list[Tensor]], list[Prediction]]
"""An image's hash and the labels of its views, which every process needs, and the predictions for the views."""


def open_training_set(config: Config) -> Any:
    """Open the dataset of ``train_dataloader``, with the preprocessing for testing: no augmentation.

    Raises:
        InputError: The config has no training data, or they are not on this disk.
    """
    tests = ("val_dataloader", "test_dataloader")
    pipeline = next((config[name].dataset.pipeline for name in tests if config.get(name)), None)
    if not config.get("train_dataloader") or pipeline is None:
        raise InputError(
            f"config {config.filename}: expected a train_dataloader for the images, and a val_dataloader for their "
            "preprocessing, found one or neither; use a config that has both"
        )
    init_default_scope(config.get("default_scope", "mmseg"))
    settings = _prepared_by(pipeline, config.train_dataloader.dataset)
    try:
        dataset = DATASETS.build(settings)
        fault = "" if len(dataset) else "no image"
    except (OSError, AssertionError) as error:
        fault = str(error)
    if fault:
        raise InputError(
            f"training data of {config.filename}: expected images and labels in {settings.get('data_root')}, "
            f"found {fault}; put them there, or name the folder that holds the datasets with --data-root"
        )
    return dataset


def _prepared_by(pipeline: list, dataset: ConfigDict) -> ConfigDict:
    """The dataset config, also inside wrappers that repeat or mix datasets, with another pipeline."""
    if "datasets" in dataset:
        return ConfigDict({**dataset, "datasets": [_prepared_by(pipeline, part) for part in dataset.datasets]})
    if "dataset" in dataset:
        return _prepared_by(pipeline, dataset.dataset)
    return ConfigDict({**copy.deepcopy(dataset), "pipeline": pipeline})


def sample_pixels(
    model: MMSegModel,
    inference: Inference,
    dataset: BaseSegDataset,
    *,
    images: int,
    pixels: int,
    generator: torch.Generator,
    ignored: int = 255,
    on_frame: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
) -> tuple[PixelSample, list[str]]:
    """Run a network on labelled images, and sample pixels of every class.

    Args:
        model: The network.
        inference: How the network is applied to an image; mirroring and other scales are left out.
        dataset: Images and labels, with the preprocessing for testing.
        images: Number of images, sampled at random; all if there are fewer.
        pixels: Largest number of pixels, split evenly over images, and in each image over its classes. Each class gets
            at least one pixel, unless there are more classes than the image's share of pixels; then classes are
            sampled.
        generator: Random generator of the CPU for images and pixels.
        ignored: Label of ignored pixels.
        on_frame: Called after each image of this process.
        processes: The processes that share the images, with generators in the same state.

    Returns:
        The pixels, and :func:`anomaly.frames.image_hash` of every image; the same on every process.

    Raises:
        InputError: There are fewer pixels than images, the classes differ from the network's, an image cannot be read,
            a label is out of range, or an output of the network is not finite.
    """
    classes = len(dataset.metainfo["classes"])
    inference = replace(inference, flip=False, scales=(1.0,))
    chosen = torch.randperm(len(dataset), generator=generator)[:images].tolist()
    if pixels < len(chosen):
        raise InputError(
            f"expected at least one pixel for each of the {len(chosen)} images, found {pixels}; increase "
            "--pixels, or decrease --images"
        )

    def read(index: int) -> tuple[Path, str, Tensor, Tensor]:
        path = Path(dataset.get_data_info(index)["img_path"])
        image = read_image(path)
        return path, image_hash(image), _labels(dataset, index, path, classes, ignored), model.prepare(image)

    def ask(one: Sequence[tuple[Path, str, Tensor, Tensor]]) -> Sequence[ImagePrediction]:
        return [predict_inputs(model, inputs[None], inference) for _, _, _, inputs in one]

    def views_of(shown: Iterable[tuple[tuple[Path, str, Tensor, Tensor], ImagePrediction]]) -> Iterator[_Views]:
        for (path, name_of_image, labels, _), prediction in shown:
            for one in prediction.views:
                _check(one.prediction, classes, path)
            labels = resize_labels(labels, prediction.size)
            owners = _owners(prediction.views, labels)
            parts = [
                one.labels(torch.where(owners == i, labels, -1), "logits") for i, one in enumerate(prediction.views)
            ]
            on_frame()
            yield (name_of_image, parts), [one.prediction for one in prediction.views]

    drawn, hashes = [], []
    with closing(show(processes.in_turn(chosen), read, ask)) as shown:
        for (name_of_image, labels), own in processes.in_order(len(chosen), views_of(shown), lambda views: views[0]):
            hashes.append(name_of_image)
            found = [None] * len(labels) if own is None else own[1]
            drawn.append(draw_pixels(list(zip(found, labels, strict=True)), pixels // len(chosen), generator))
    parts = [max(each, key=len) for each in zip(*processes.gather(drawn), strict=True)]  # one process has them
    return replace(join(part for of_image in parts for part in of_image), linear=model.linear), hashes


def _labels(dataset: BaseSegDataset, index: int, path: Path, classes: int, ignored: int) -> Tensor:
    """Class of every pixel, -1 if it has none. Shape: ``(H, W)``, int64."""
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
            "use labels with the class ids of the network"
        )
    return labels


def _check(prediction: Prediction, classes: int, path: Path) -> None:
    logits = prediction.logits
    if logits is None:
        raise InputError(
            "expected a network with logits of at least two classes, found none; scores cannot be fitted to it"
        )
    if logits.shape[1] != classes:
        raise InputError(
            f"the network has {logits.shape[1]} classes and the training data {classes}; use the config it was "
            "trained with"
        )
    if not logits.isfinite().all():
        raise InputError(f"the network's logits of {path} are not finite; its checkpoint is damaged, use another")


def _owners(views: Sequence[ViewPrediction], labels: Tensor) -> Tensor:
    """The view from which each pixel is taken: the one whose border is farthest from it. Shape: ``(H, W)``."""
    farthest, owners = torch.zeros(labels.shape), torch.zeros_like(labels)
    for i, one in enumerate(views):
        down, across = (_depth(length) for length in one.view.part)
        depth = torch.minimum(down[:, None], across)
        window = (one.view.rows, one.view.columns)
        owners[window] = torch.where(depth > farthest[window], i, owners[window])
        farthest[window] = torch.maximum(depth, farthest[window])
    return owners


def _depth(length: int) -> Tensor:
    """Distance of each pixel's centre to the nearer end. Shape: ``(length,)``."""
    place = torch.arange(length) + 0.5
    return torch.minimum(place, length - place)
