"""Closed-set mIoU of an mmseg segmentor, for every class, as mmengine's ``Runner.val()`` measures it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS

from anomaly.datasets.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES, decode, read_label
from anomaly.datasets.walk import files_below
from anomaly.errors import InputError
from anomaly.models.evaluation_mode import evaluation_mode
from anomaly.models.loop import show
from anomaly.results.records import ClosedSet
from anomaly.utils.names import check_distinct
from anomaly.utils.processes import ALONE, Processes
from anomaly.utils.profile import Profile


class NoClosedSet(InputError):
    """The config has no closed-set data, or they are not on this disk."""


def open_closed_set(config: Config) -> BaseSegDataset:
    """Open the dataset of the config's ``val_dataloader``.

    Warns of images and label maps in its folders that belong to no frame.

    Raises:
        InputError: The config has no such dataset, its folder is missing or empty, or mmseg, which lists images by one
            suffix, would silently skip a frame.
    """
    if not config.get("val_dataloader"):
        raise NoClosedSet(f"config {config.filename}: expected a val_dataloader, found none; use --no-closed-set")
    init_default_scope(config.get("default_scope", "mmseg"))
    settings = config.val_dataloader.dataset
    try:
        dataset = DATASETS.build(settings)
        fault = "" if len(dataset) else "no frame"
    except (OSError, AssertionError) as error:
        fault = str(error)
    if fault:
        folders = ", ".join((settings.get("data_prefix") or {}).values())
        raise NoClosedSet(
            f"closed set of {config.filename}: expected images and labels in {settings.get('data_root')} "
            f"({folders}), found {fault}; put them there, or leave the closed set out with --no-closed-set"
        )
    check_whole(dataset, "closed set", ", or leave the closed set out with --no-closed-set")
    check_distinct(dataset.metainfo.get("classes") or (), "classes", "correct the metainfo of the config's dataset")
    return dataset


def check_whole(dataset: Any, what: str, otherwise: str = "") -> None:
    """Check that a dataset has all frames in its folders; mmseg lists only the images with one suffix.

    Warns of images and label maps that belong to no frame. If a file lists the frames of the dataset, nothing is
    checked.

    Args:
        dataset: A dataset, or a wrapper that repeats one or concatenates several. Types that are not mmseg's are
            skipped.
        what: What the dataset is, for messages.
        otherwise: What else the user can do about skipped frames, for the message.

    Raises:
        InputError: An image with another suffix has a label map, a link is broken, or a folder cannot be listed.
    """
    if isinstance(dataset, BaseSegDataset):
        _check_whole(dataset, what, otherwise)
    else:
        for part in getattr(dataset, "datasets", [getattr(dataset, "dataset", None)]):
            if part is not None:
                check_whole(part, what, otherwise)


def _check_whole(dataset: BaseSegDataset, what: str, otherwise: str) -> None:
    folders = [dataset.data_prefix.get(name) or "" for name in ("img_path", "seg_map_path")]
    if not all(map(os.path.isdir, folders)) or os.path.isfile(dataset.ann_file):
        return
    images, labels = map(Path, folders)
    frames = dataset.load_data_list()
    taken = {Path(frame[name]) for frame in frames for name in ("img_path", "seg_map_path")}
    suffixes = (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)
    others = [path for path in files_below(images) if path.suffix.lower() in suffixes and path not in taken]
    ending = dataset.seg_map_suffix.lower()
    maps = [path for path in files_below(labels) if path.name.lower().endswith(ending) and path not in taken]
    named = {str(path.relative_to(labels)).lower() for path in maps}
    middle = os.path.splitext(dataset.img_suffix)[0]
    lost = [
        path
        for path in others
        if f"{str(path.relative_to(images).with_suffix('')).removesuffix(middle)}{ending}".lower() in named
    ]
    if lost:
        raise InputError(
            f"{what}: expected images that end in {dataset.img_suffix} and label maps that end in "
            f"{dataset.seg_map_suffix}, as the config's dataset reads them, found {lost[0]} with a label map "
            f"({len(lost)} such frames beside {len(frames)}); rename all files to these suffixes, or change "
            f"img_suffix{otherwise}"
        )
    if left := sorted({*others, *maps}):
        warnings.warn(
            f"{what}: {len(left)} files such as {left[0]} belong to none of its {len(frames)} frames and are "
            f"ignored: a frame is an image that ends in {dataset.img_suffix} and a label map that ends in "
            f"{dataset.seg_map_suffix}",
            stacklevel=4,
        )


def evaluate_closed_set(
    config: Config,
    model: BaseSegmentor,
    dataset: BaseSegDataset,
    *,
    limit: int | None = None,
    on_frame: Callable[[], None] | None = None,
    profile: Profile | None = None,
    processes: Processes = ALONE,
) -> ClosedSet:
    """Segment the validation images and compare them with their labels.

    Args:
        config: The config; its ``val_evaluator`` says which label is ignored.
        model: The network on its device. It is in evaluation mode during segmentation, and then as before.
        dataset: The dataset from :func:`open_closed_set`.
        limit: Number of frames, from the first; None for all.
        on_frame: Called after each frame of this process.
        profile: Receives the seconds spent in each stage.
        processes: The processes that share the frames.

    Returns:
        IoU and accuracy pooled over the frames, as fractions in 0..1. A class in neither labels nor predictions is NaN
        and is left out of means.

    Raises:
        InputError: An image or label cannot be read, the two differ in size, or a label value is neither a class nor
            the ignored one.
    """
    profile = profile or Profile()
    metric = IoUMetric(ignore_index=_ignore_index(config), prefix="closed_set")
    metric.dataset_meta = dataset.metainfo
    frames = processes.in_turn(range(len(dataset) if limit is None else min(limit, len(dataset))))

    def ask(batch: Sequence[dict[str, Any]]) -> Sequence[Any]:
        with torch.no_grad(), evaluation_mode(model):
            return model.val_step(pseudo_collate(list(batch)))

    with closing(show(frames, lambda i: _read(dataset, i, profile), ask, profile=profile)) as shown:
        for _, sample in shown:
            with profile.stage("metrics"):
                _check_size(sample)
                _check_label(sample, len(dataset.metainfo["classes"]), metric.ignore_index)
                metric.process({}, [sample.to_dict()])
            if on_frame is not None:
                on_frame()
    areas = [area for part in processes.gather(metric.results) for area in part]
    return _closed_set(config.val_dataloader.dataset.type, dataset.metainfo["classes"], areas)


def _closed_set(name: str, classes: tuple[str, ...], areas: list[tuple[torch.Tensor, ...]]) -> ClosedSet:
    """Pool mmseg's areas of each frame: intersection, union, prediction and label, each ``(C,)``."""
    intersection, union, _, label = (torch.stack(area).double().sum(0) for area in zip(*areas, strict=True))
    iou = intersection / union
    unlabelled = [name for name, count in zip(classes, label.tolist(), strict=True) if not count]
    return ClosedSet(
        dataset=name,
        frames=len(areas),
        miou=iou.nanmean().item(),
        macc=(intersection / label).nanmean().item(),
        aacc=(intersection.sum() / label.sum()).item(),
        class_iou=dict(zip(classes, iou.tolist(), strict=True)),
        unlabelled=unlabelled,
    )


def _ignore_index(config: Config) -> int:
    evaluators = config.get("val_evaluator") or []
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    return next((e.get("ignore_index", 255) for e in evaluators if e["type"].split(".")[-1] == "IoUMetric"), 255)


def _read(dataset: BaseSegDataset, i: int, profile: Profile) -> dict[str, Any]:
    files = dataset.get_data_info(i)
    with profile.stage("reading", background=True):
        decode(Path(files["img_path"]))  # mmcv fills in what a truncated file lacks,
        read_label(Path(files["seg_map_path"]))  # and reads label values modulo 256
        try:
            return dataset[i]
        except (OSError, AssertionError, AttributeError) as error:  # mmcv's reader raises any of these
            raise InputError(
                f"closed set: expected a readable image {files['img_path']} with its label "
                f"{files['seg_map_path']}, found: {error}; copy the pair again"
            ) from error


def _check_size(sample: Any) -> None:
    found, labelled = sample.pred_sem_seg.shape, sample.gt_sem_seg.shape
    if found != labelled:
        raise InputError(
            f"closed set: expected image and label of the same size, found {tuple(found)} (h, w) for "
            f"{sample.img_path} and {tuple(labelled)} for {sample.seg_map_path}; use the files as published"
        )


def _check_label(sample: Any, classes: int, ignore_index: int) -> None:
    label = sample.gt_sem_seg.data
    undefined = (label >= classes) & (label != ignore_index)
    if undefined.any():
        raise InputError(
            f"{sample.seg_map_path}: expected only the classes 0 to {classes - 1} and {ignore_index} (ignored), found "
            f"also {label[undefined].unique().tolist()}; use labels with the class ids of the config's dataset, or "
            "leave the closed set out with --no-closed-set"
        )
