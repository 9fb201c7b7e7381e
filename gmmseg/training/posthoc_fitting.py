"""Mixtures fitted to a trained network: to the features that its last layer classifies, and to a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmseg.models import BaseSegmentor
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.models.tiling import sliding_windows
from anomaly.utils.processes import ALONE, Processes
from gmmseg.models.frozen_depth import frozen_config, pretrained_backbone
from gmmseg.models.posthoc_segmentor import PosthocSegmentor, posthoc_config
from gmmseg.models.segmentor import LikelihoodSegmentor
from gmmseg.posthoc.mixtures import ClassDensities
from gmmseg.registry import MODELS
from gmmseg.training.feature_pass import collect_features

Build = Callable[[Config], BaseSegmentor]


def fitting_config(
    config: Config, components: int, frozen: int | None, build: Build
) -> tuple[Config, nn.Module | None]:
    """Add the mixtures that are to be fitted to the config of a trained network.

    Args:
        config: Config of the trained network.
        components: Largest number of Gaussians per class.
        frozen: Feature map of a frozen copy of the backbone to fit mixtures to, from 0; -1 is the deepest, ``None``
            uses no frozen copy. A generative network keeps its own mixtures next to those of the copy.
        build: Builds a network from a config.

    Returns:
        The new config, and the backbone with its pretrained weights (``None`` without a frozen copy).

    Raises:
        InputError: No mixtures can be fitted to the network, ``frozen`` is out of range, or its ``test_cfg`` is not
            valid.
    """
    sliding_windows(config.get("model", {}).get("test_cfg"))  # raises now, not in the middle of the pass
    kind = config.get("model", {}).get("type")
    network = MODELS.get(kind) if isinstance(kind, str) else kind
    generative = frozen is not None and isinstance(network, type) and issubclass(network, LikelihoodSegmentor)
    config = config if generative else posthoc_config(config, components)
    if frozen is None:
        return config, None
    backbone, model = pretrained_backbone(config), build(config)
    with torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, 3, 64, 64))
    if not -len(maps) <= frozen < len(maps):
        raise InputError(
            f"--frozen: expected the number of one of the backbone's {len(maps)} feature maps, from 0 (-1 is the "
            f"deepest), found {frozen}; give another number"
        )
    new = frozen_config(
        config,
        stage=frozen,
        channels=maps[frozen].shape[1],
        num_components=components,
        embed_dim=_embed_dim(model),
    )
    return new, backbone


def fresh_weights(model: LikelihoodSegmentor, backbone: nn.Module | None) -> dict[str, Tensor]:
    """Return the weights that a checkpoint of the trained network lacks: new mixtures, and the pretrained backbone.

    Args:
        model: A network built from the config of :func:`fitting_config`.
        backbone: The pretrained backbone; ``None`` without a frozen copy.

    Returns:
        Entries for the state dict of ``model``.
    """
    fresh = {key: value for key, value in model.state_dict().items() if key.startswith(("densities.", "frozen."))}
    frozen = {} if backbone is None else backbone.state_dict()
    return fresh | {f"frozen.backbone.{key}": value for key, value in frozen.items()}


def fit(
    model: LikelihoodSegmentor,
    dataset: Any,
    images: int,
    pixels: int,
    generator: torch.Generator,
    on_frame: Callable[[Path], None] = lambda image: None,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Fit all mixtures that are not trained, with one pass over the images for each of them.

    Args:
        model: A network built from the config of :func:`fitting_config`, with weights, on its device.
        dataset: The training data, from :func:`anomaly.mmengine.training_pixels.open_training_set`.
        images: Number of images, drawn at random; all of them if the dataset has fewer.
        pixels: Largest number of pixels per class.
        generator: CPU generator that draws images, pixels and the starting points of EM.
        on_frame: Called after each image of this process in each pass, with its path.
        processes: The processes that share the images, with generators in the same state.

    Returns:
        Summary of each fit, by name (``"densities"``, ``"frozen"``): number of labelled pixels and of fitted
        components of each class.

    Raises:
        InputError: The data do not fit the network; see :func:`gmmseg.training.feature_pass.collect_features`.
    """
    fits = {}
    if isinstance(model, PosthocSegmentor):

        def embed(inputs: Tensor, metas: list[dict]) -> Tensor:
            return model.embed(inputs, metas)[1]

        fits["densities"] = _fit(model, model.densities, embed, dataset, images, pixels, generator, on_frame, processes)
    if (frozen := model.frozen) is not None:

        def frozen_embed(inputs: Tensor, metas: list[dict]) -> Tensor:
            return frozen.embed(inputs)

        fits["frozen"] = _fit(
            model, frozen.densities, frozen_embed, dataset, images, pixels, generator, on_frame, processes
        )
    return fits


def _fit(
    model: LikelihoodSegmentor,
    densities: ClassDensities,
    embed: Callable[[Tensor, list[dict]], Tensor],
    dataset: Any,
    images: int,
    pixels: int,
    generator: torch.Generator,
    on_frame: Callable[[Path], None],
    processes: Processes,
) -> dict[str, list[int]]:
    dim = densities.means.shape[2]
    sample = collect_features(model, embed, dim, dataset, images, pixels, generator, on_frame, processes)
    device = densities.means.device
    components = densities.cpu().fit(sample, generator)
    densities.to(device)
    return {"pixels": sample.seen.tolist(), "components": components}


def _embed_dim(model: Any) -> int:
    """Dimensions of the embedding under the mixtures of a network without its frozen copy."""
    if isinstance(model, PosthocSegmentor):
        return int(model.densities.means.shape[2])
    head: Any = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else model.decode_head
    return int(head.classifier.settings.embed_dim)
