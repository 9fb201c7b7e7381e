"""One pass of a network over labelled images, for the features of their pixels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch import Tensor

from anomaly.errors import InputError
from gmmseg.models.segmentor import LikelihoodSegmentor
from gmmseg.posthoc.mixtures import StratifiedSample
from anomaly.models.tiling import sliding_windows


def open_training_set(config: Config) -> Any:
    """Open the data set of ``train_dataloader``, its images prepared as for testing: no augmentation.

    Raises:
        InputError: The config has no training data, or they are not there.
    """
    tests = ("val_dataloader", "test_dataloader")
    pipeline = next((config[name].dataset.pipeline for name in tests if config.get(name)), None)
    if not config.get("train_dataloader") or pipeline is None:
        raise InputError(
            f"config {config.filename} needs a train_dataloader, for its images, and a val_dataloader, for "
            "how to prepare them; give a config that has both"
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
            f"found {fault}; put them there, or name the folder that holds the data sets with --data-root"
        )
    return dataset


def _prepared_by(pipeline: list, dataset: ConfigDict) -> ConfigDict:
    """The data set inside wrappers that repeat or mix it, with another pipeline."""
    if "datasets" in dataset:
        return ConfigDict({**dataset, "datasets": [_prepared_by(pipeline, part) for part in dataset.datasets]})
    if "dataset" in dataset:
        return _prepared_by(pipeline, dataset.dataset)
    return ConfigDict({**copy.deepcopy(dataset), "pipeline": pipeline})


@torch.inference_mode()
def collect_features(
    model: LikelihoodSegmentor,
    embed: Callable[[Tensor, list[dict]], Tensor],
    dim: int,
    dataset: Any,
    images: int,
    pixels: int,
    generator: torch.Generator,
    on_frame: Callable[[Path], None] = lambda image: None,
) -> StratifiedSample:
    """Pass once over some images, and sample the labelled pixels of every class at the features' resolution.

    Args:
        model: The network, on its device; in evaluation mode while it looks, afterwards as it was.
        embed: Gives the features of its inputs: of images ``(B, 3, H, W)`` and mmseg's metainfo, ``(B, D, h, w)``.
        dim: D.
        dataset: As :func:`open_training_set` gives it.
        images: How many, drawn at random; more than there are means all.
        pixels: Most pixels of a class; fewer where all classes together would take more than 2 GiB.
        generator: Draws images and pixels; of the CPU.
        on_frame: Called after each image, with its file.

    Raises:
        InputError: Other classes than the network's, or an image that cannot be read, has no label, a label out
            of range, or features that are not finite.
    """
    for name, value in (("images", images), ("pixels of a class", pixels)):
        if value < 1:
            raise InputError(f"the number of {name} must be 1 or more, found {value}")
    classes = model.num_classes
    if len(dataset.metainfo["classes"]) != classes:
        raise InputError(
            f"the network has {classes} classes and the training data {len(dataset.metainfo['classes'])}; give the "
            "config it was trained with"
        )
    sample = StratifiedSample(classes, min(pixels, max(1, 2**29 // (classes * dim))), dim, generator)
    for index in torch.randperm(len(dataset), generator=generator)[:images].tolist():
        data = _read(dataset, index)
        with _evaluation_mode(model):
            _add_image(model, embed, data, sample)
        on_frame(Path(dataset.get_data_info(index)["img_path"]))
    return sample


@contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Have every module of the network in evaluation mode while the context lasts, then as it was found."""
    found = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in found:
            module.training = False
        yield
    finally:
        for module, training in found:
            module.training = training


def _read(dataset: Any, index: int) -> dict[str, Any]:
    try:
        data = dataset[index]
    except (OSError, AssertionError, AttributeError) as error:  # mmcv's reader raises any of these
        files = dataset.get_data_info(index)
        raise InputError(
            f"training data: expected a readable image {files.get('img_path')} with its label "
            f"{files.get('seg_map_path')}, found: {error}; copy the pair again"
        ) from error
    if "gt_sem_seg" not in data["data_samples"]:
        raise InputError("the config's val_dataloader pipeline loads no labels; add LoadAnnotations to it")
    return data


def _add_image(
    model: LikelihoodSegmentor,
    embed: Callable[[Tensor, list[dict]], Tensor],
    data: dict[str, Any],
    sample: StratifiedSample,
) -> None:
    ignored = _head_of(model).ignore_index
    batch = model.data_preprocessor(pseudo_collate([data]), False)
    metas = [dict(batch["data_samples"][0].metainfo)]
    labels = _input_labels(data, batch["inputs"].shape[2:], ignored, model.num_classes)
    for rows, columns in _windows(model.test_cfg, *labels.shape[2:]):
        features = embed(batch["inputs"][:, :, rows, columns], metas)
        part = F.interpolate(labels[:, :, rows, columns], features.shape[2:], mode="nearest-exact").flatten().long()
        labelled = (part != ignored).nonzero().squeeze(1)
        kept = features.permute(0, 2, 3, 1).flatten(0, 2)[labelled.to(features.device)]
        if not kept.isfinite().all():
            raise InputError(
                f"the network's features of {metas[0].get('img_path')} are not finite; its checkpoint is broken, give "
                "another"
            )
        sample.add(kept, part[labelled])


def _head_of(model: LikelihoodSegmentor) -> Any:
    return model.decode_head[-1] if isinstance(model.decode_head, torch.nn.ModuleList) else model.decode_head


def _input_labels(data: dict[str, Any], padded: torch.Size, ignored: int, classes: int) -> Tensor:
    """Labels of the network's input, what was padded ignored. Shape ``(1, 1, H, W)``, float32."""
    sample, size = data["data_samples"], data["inputs"].shape[1:]
    labels = sample.gt_sem_seg.data
    undefined = labels[(labels != ignored) & ((labels < 0) | (labels >= classes))].unique().tolist()
    if undefined:
        raise InputError(
            f"{sample.get('seg_map_path', 'a label')}: expected the classes 0 to {classes - 1} and {ignored} "
            f"(ignored), found also {undefined}; give labels in the class ids of the network"
        )
    labels = F.interpolate(labels[None].float(), size)
    return F.pad(labels, (0, padded[1] - size[1], 0, padded[0] - size[0]), value=ignored)


def _windows(test_cfg: Any, height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """The parts of an image that inference looks at one by one: all of it, or mmseg's sliding windows."""
    if (sliding := sliding_windows(test_cfg)) is None:
        yield slice(0, height), slice(0, width)
        return
    window, stride = sliding
    for rows in _places(height, window[0], stride[0]):
        for columns in _places(width, window[1], stride[1]):
            yield rows, columns


def _places(length: int, window: int, stride: int) -> list[slice]:
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(i * stride + window, length) for i in range(count)]
    return [slice(max(end - window, 0), end) for end in ends]
