"""One pass of a network over labelled images, to sample the features of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from anomaly.utils.processes import ALONE, Processes
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
    processes: Processes = ALONE,
) -> StratifiedSample:
    """Sample the features of labelled pixels of every class, in one pass over the images.

    Labels are resized to the resolution of the features.

    Args:
        model: The network, on its device. It is in evaluation mode during the pass; its own mode is restored.
        embed: Computes features ``(B, D, h, w)`` of images ``(B, 3, H, W)`` and their mmseg metainfo.
        dim: Size of a feature, D.
        dataset: The training data, from :func:`anomaly.mmengine.training_pixels.open_training_set`.
        images: Number of images, drawn at random; all of them if the dataset has fewer.
        pixels: Largest number of pixels per class, lowered so that all classes together stay below 2 GiB.
        generator: CPU generator that draws images and pixels.
        on_frame: Called after each image of this process, with its path.
        processes: The processes that share the images, with generators in the same state.

    Raises:
        InputError: ``images`` or ``pixels`` is below 1; the network has another number of classes than the dataset;
            an image cannot be read, has no label, has a label out of range, or its features are not finite.
    """
    for name, value in (("images", images), ("pixels per class", pixels)):
        if value < 1:
            raise InputError(f"the number of {name} must be 1 or more, found {value}; give a larger number")
    classes = model.num_classes
    if len(dataset.metainfo["classes"]) != classes:
        raise InputError(
            f"expected training data with the {classes} classes of the network, found "
            f"{len(dataset.metainfo['classes'])}; give the config that the network was trained with"
        )
    sample = StratifiedSample(classes, min(pixels, max(1, 2**29 // (classes * dim))), dim, generator)
    chosen = torch.randperm(len(dataset), generator=generator)[:images].tolist()

    def predict(batch: Sequence[tuple[int, dict[str, Any]]]) -> Sequence[list[tuple[Tensor, Tensor]]]:
        with evaluation_mode(model):
            return [_pixels(model, embed, data) for _, data in batch]

    def pixels_of(results: Iterable[tuple[tuple[int, Any], list[tuple[Tensor, Tensor]]]]) -> Iterator[Any]:
        for (index, _), views in results:
            on_frame(Path(dataset.get_data_info(index)["img_path"]))
            yield [labels for _, labels in views], [features for features, _ in views]

    mine = processes.in_turn(chosen)
    with closing(show(mine, lambda index: (index, _read(dataset, index)), predict)) as results:
        for views, own in processes.in_order(len(chosen), pixels_of(results), lambda each: each[0]):
            for features, labels in zip([None] * len(views) if own is None else own[1], views, strict=True):
                sample.add(features, labels)
    sample.gather(processes)
    return sample


def _read(dataset: Any, index: int) -> dict[str, Any]:
    try:
        data = dataset[index]
    except (OSError, AssertionError, AttributeError) as error:  # mmcv's reader raises any of these
        files = dataset.get_data_info(index)
        raise InputError(
            f"training data: expected a readable image {files.get('img_path')} with the label map "
            f"{files.get('seg_map_path')}, found {error}; copy both files again"
        ) from error
    if "gt_sem_seg" not in data["data_samples"]:
        raise InputError(
            "expected a val_dataloader pipeline that loads labels, found none in the config; add LoadAnnotations to it"
        )
    return data


def _pixels(
    model: LikelihoodSegmentor, embed: Callable[[Tensor, list[dict]], Tensor], data: dict[str, Any]
) -> list[tuple[Tensor, Tensor]]:
    """Compute features ``(n, D)`` and labels ``(n,)`` of the labelled pixels in each view of an image."""
    ignored = _head_of(model).ignore_index
    batch = model.data_preprocessor(pseudo_collate([data]), False)
    metas = [dict(batch["data_samples"][0].metainfo)]
    labels = _input_labels(data, batch["inputs"].shape[2:], ignored, model.num_classes)
    size = (labels.shape[2], labels.shape[3])
    window, stride = sliding_windows(model.test_cfg) or (size, size)
    views = []
    for rows, columns in windows(size, window, stride):
        features = embed(batch["inputs"][:, :, rows, columns], metas)
        view_labels = F.interpolate(labels[:, :, rows, columns], features.shape[2:], mode="nearest-exact")
        view_labels = view_labels.flatten().long()
        labelled = (view_labels != ignored).nonzero().squeeze(1)
        kept = features.permute(0, 2, 3, 1).flatten(0, 2)[labelled.to(features.device)]
        if not kept.isfinite().all():
            raise InputError(
                f"expected finite features of {metas[0].get('img_path')}, found NaN or infinity; the checkpoint is "
                "damaged, give another one"
            )
        views.append((kept, view_labels[labelled]))
    return views


def _head_of(model: LikelihoodSegmentor) -> Any:
    return model.decode_head[-1] if isinstance(model.decode_head, torch.nn.ModuleList) else model.decode_head


def _input_labels(data: dict[str, Any], padded: torch.Size, ignored: int, classes: int) -> Tensor:
    """Labels at the size of the network's input, with padding ignored. Shape ``(1, 1, H, W)``, float32."""
    sample, size = data["data_samples"], data["inputs"].shape[1:]
    labels = sample.gt_sem_seg.data
    undefined = labels[(labels != ignored) & ((labels < 0) | (labels >= classes))].unique().tolist()
    if undefined:
        raise InputError(
            f"{sample.get('seg_map_path', 'a label map')}: expected the classes 0 to {classes - 1} and {ignored} "
            f"(ignored), found also {undefined}; use the network's class indices"
        )
    labels = F.interpolate(labels[None].float(), size)
    return F.pad(labels, (0, padded[1] - size[1], 0, padded[0] - size[0]), value=ignored)
