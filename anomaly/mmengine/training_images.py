"""Training images of a config, with the preprocessing for testing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from torch import Tensor

from anomaly.datasets.images import read_image
from anomaly.errors import InputError
from anomaly.fitting.images import TrainingImages, class_indices
from anomaly.frames import Image
from anomaly.mmengine.closed_set import check_whole
from anomaly.models.checkpoints import check_classes


def training_images_of(model: Any) -> TrainingImages:
    """The training images of a model's config, checked, to fit to.

    Args:
        model: A model of mmsegmentation, with its config and checkpoint.

    Raises:
        InputError: The config has no training data, they are not on this disk or not whole, or the checkpoint was
            trained on other classes.
    """
    dataset = open_training_set(model.config)
    source = model.inputs.get("checkpoint", {}).get("path", "")
    check_classes(getattr(model, "checkpoint", {}), dataset.metainfo["classes"], source)
    check_whole(dataset, "training data")
    return training_images(dataset)


def open_training_set(config: Config) -> Any:
    """Open the dataset of ``train_dataloader``, with the preprocessing for testing: no augmentation.

    Args:
        config: Config of a network. Its ``val_dataloader``, or else its ``test_dataloader``, has the preprocessing.

    Raises:
        InputError: The config has no training data or no such preprocessing, or the images are not on this disk.
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


def training_images(dataset: BaseSegDataset) -> TrainingImages:
    """The images of a dataset, with their class labels, to fit to.

    Args:
        dataset: Images and labels, from :func:`open_training_set`.
    """
    names = tuple(map(str, dataset.metainfo["classes"]))

    def read(index: int) -> tuple[Image, Tensor]:
        path = Path(dataset.get_data_info(index)["img_path"])
        return read_image(path), _labels(dataset, index, path, len(names))

    return TrainingImages(range(len(dataset)), read, labelled=True, classes=len(names), names=names)


def _labels(dataset: BaseSegDataset, index: int, path: Path, classes: int) -> Tensor:
    """Class of every pixel, -1 if it has none. Shape: ``(H, W)``, int64."""
    try:
        labels: Tensor = dataset[index]["data_samples"].gt_sem_seg.data[0]
    except (OSError, AssertionError, AttributeError) as error:  # mmcv's reader raises any of these
        raise InputError(
            f"training data: expected a label map of {path} that can be read, found: {error}; copy it again"
        ) from error
    return class_indices(labels.numpy(), classes, str(path))
