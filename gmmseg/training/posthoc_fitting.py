"""Mixtures fitted to a trained network: of the features that its last layer classifies, and of a frozen backbone's."""

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
from gmmseg.models.frozen_depth import frozen_config, pretrained_backbone
from gmmseg.models.posthoc_segmentor import PosthocSegmentor, posthoc_config
from gmmseg.models.segmentor import LikelihoodSegmentor
from gmmseg.registry import MODELS
from gmmseg.training.feature_pass import collect_features

Build = Callable[[Config], BaseSegmentor]


def fitting_config(
    config: Config, components: int, frozen: int | None, build: Build
) -> tuple[Config, nn.Module | None]:
    """Give the config of the network with mixtures to be fitted, and its backbone as pretrained where that is wanted.

    Args:
        config: Of the trained network.
        components: Most Gaussians of a class.
        frozen: Which feature map of a frozen copy of the backbone has mixtures too, from 0, -1 the deepest; None for
            none. A generative network keeps its own mixtures then.
        build: Makes a network of a config.

    Raises:
        InputError: The network cannot be fitted, or is generative already, or its ``test_cfg`` makes no sense.
    """
    sliding_windows(config.get("model", {}).get("test_cfg"))  # the pass looks so, too late to find a fault
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
            f"frozen stage: expected one of the backbone's {len(maps)} feature maps, from 0, found {frozen}; -1 is the "
            "deepest"
        )
    embed_dim = _own_dim(model)
    shape = {"stage": frozen, "channels": maps[frozen].shape[1], "num_components": components}
    return frozen_config(config, **shape, embed_dim=embed_dim), backbone


def fresh_weights(model: LikelihoodSegmentor, backbone: nn.Module | None) -> dict[str, Tensor]:
    """What a checkpoint of the trained network does not have: mixtures to be fitted, and the pretrained backbone."""
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
) -> dict[str, Any]:
    """Fit all mixtures that are not trained: one pass over the images for each.

    Args:
        model: As :func:`fitting_config` describes it, with weights, on its device.
        dataset: As :func:`gmmseg.training.feature_pass.open_training_set` gives it.
        images: As :func:`gmmseg.training.feature_pass.collect_features`.
        pixels: Likewise.
        generator: Likewise; draws the starts of EM too.
        on_frame: Called after each image of each pass, with its file.

    Returns:
        For the record, by name: pixels met and components of each class.
    """
    found = {}
    if isinstance(model, PosthocSegmentor):

        def embed(inputs: Tensor, metas: list[dict]) -> Tensor:
            return model.embed(inputs, metas)[1]

        found["densities"] = _fit(model, model.densities, embed, dataset, images, pixels, generator, on_frame)
    if (frozen := model.frozen) is not None:

        def frozen_embed(inputs: Tensor, metas: list[dict]) -> Tensor:
            return frozen.embed(inputs)

        found["frozen"] = _fit(model, frozen.densities, frozen_embed, dataset, images, pixels, generator, on_frame)
    return found


def _fit(model: Any, densities: Any, embed: Any, dataset: Any, *how: Any) -> dict[str, list[int]]:
    images, pixels, generator, on_frame = how
    dim = densities.means.shape[2]
    sample = collect_features(model, embed, dim, dataset, images, pixels, generator, on_frame)
    device = densities.means.device
    components = densities.cpu().fit(sample, generator)
    densities.to(device)
    return {"pixels": sample.seen.tolist(), "components": components}


def _own_dim(model: Any) -> int:
    """Dimensions of the embedding that a network's own mixtures are over."""
    if isinstance(model, PosthocSegmentor):
        return int(model.densities.means.shape[2])
    head: Any = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else model.decode_head
    return int(head.classifier.settings.embed_dim)
