"""One pass of a network over labelled images, for the features of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor

from anomaly.errors import InputError
from anomaly.models.evaluation_mode import evaluation_mode
from anomaly.models.loop import show
from anomaly.models.tiling import sliding_windows, windows
from gmmseg.models.segmentor import LikelihoodSegmentor
from gmmseg.posthoc.mixtures import StratifiedSample


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
        dataset: As :func:`anomaly.mmengine.training_pixels.open_training_set` gives it.
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
    chosen = torch.randperm(len(dataset), generator=generator)[:images].tolist()

    def ask(batch: Sequence[tuple[int, dict[str, Any]]]) -> Sequence[list[tuple[Tensor, Tensor]]]:
        with evaluation_mode(model):
            return [_pixels(model, embed, data) for _, data in batch]

    with closing(show(chosen, lambda index: (index, _read(dataset, index)), ask)) as shown:
        for (index, _), views in shown:
            for features, labels in views:
                sample.add(features, labels)
            on_frame(Path(dataset.get_data_info(index)["img_path"]))
    return sample


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


def _pixels(
    model: LikelihoodSegmentor, embed: Callable[[Tensor, list[dict]], Tensor], data: dict[str, Any]
) -> list[tuple[Tensor, Tensor]]:
    """Features ``(n, D)`` and labels ``(n,)`` of the labelled pixels of each view of an image."""
    ignored = _head_of(model).ignore_index
    batch = model.data_preprocessor(pseudo_collate([data]), False)
    metas = [dict(batch["data_samples"][0].metainfo)]
    labels = _input_labels(data, batch["inputs"].shape[2:], ignored, model.num_classes)
    size = (labels.shape[2], labels.shape[3])
    found = []
    for rows, columns in windows(size, *(sliding_windows(model.test_cfg) or (size, size))):
        features = embed(batch["inputs"][:, :, rows, columns], metas)
        part = F.interpolate(labels[:, :, rows, columns], features.shape[2:], mode="nearest-exact").flatten().long()
        labelled = (part != ignored).nonzero().squeeze(1)
        kept = features.permute(0, 2, 3, 1).flatten(0, 2)[labelled.to(features.device)]
        if not kept.isfinite().all():
            raise InputError(
                f"the network's features of {metas[0].get('img_path')} are not finite; its checkpoint is broken, give "
                "another"
            )
        found.append((kept, part[labelled]))
    return found


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
