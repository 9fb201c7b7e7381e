"""Classes that are added to a trained GMMSeg network without training it, in its config and its checkpoint."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from anomaly.density.mixtures import PIXELS_PER_COMPONENT, fit_mixtures
from anomaly.errors import InputError
from gmmseg.classifier import GMMClassifier
from gmmseg.datasets.added_classes import name_class, unname_class
from gmmseg.mixture import AddedMixture
from gmmseg.settings import MixtureSettings

__all__ = ["add_class", "classifier_of", "fit_added_mixture", "remove_class"]
_RECORD = "posthoc"
"""Where a checkpoint's meta has what was fitted after training, ``fitted_images`` among it."""


def classifier_of(network: nn.Module) -> GMMClassifier:
    """Return the classifier of a GMMSeg network.

    Args:
        network: A network of mmsegmentation.

    Raises:
        InputError: The network is not a GMMSeg network.
    """
    heads = getattr(network, "decode_head", None)
    head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    classifier = getattr(head, "classifier", None)
    if not isinstance(classifier, GMMClassifier):
        raise InputError(
            f"expected a GMMSeg network, whose classes are mixtures, found {type(network).__name__} with the head "
            f"{type(head).__name__}; classes can be added only to a GMMSeg network"
        )
    return classifier


def fit_added_mixture(
    features: Tensor, settings: MixtureSettings, num_components: int, generator: Generator
) -> AddedMixture:
    """Fit the mixture of a new class by EM, with the variance floor of the network's own mixtures.

    As in these, the means have unit length, and variances are taken about them. There is one component for every
    ``PIXELS_PER_COMPONENT`` features, up to ``num_components``.

    Args:
        features: Embeddings of the class, unit vectors. Shape ``(n, D)``.
        settings: Settings of the network's mixtures.
        num_components: Largest number of components, at most ``settings.num_components``.
        generator: CPU generator that draws the starting points of EM.

    Raises:
        InputError: There are fewer features than one component needs.
    """
    if len(features) < PIXELS_PER_COMPONENT:
        raise InputError(
            f"expected at least {PIXELS_PER_COMPONENT} marked cells of the network's feature map, found "
            f"{len(features)}; mark more of the object, or more images"
        )
    (found,) = fit_mixtures([features], num_components, generator, variance_floor=settings.variance_floor)
    used = len(found.weights)
    means = F.normalize(found.means, dim=1)
    mixture = AddedMixture(settings.num_components, settings.embed_dim)
    mixture.means[:used] = means.float()
    mixture.stds[:used] = (found.parameters["stds"].square() + (means - found.means).square()).sqrt().float()
    mixture.log_weights[:used] = found.weights.log().float()
    return mixture


def add_class(
    config: Any,
    checkpoint: Mapping[str, Any],
    name: str,
    mixture: AddedMixture,
    *,
    color: Sequence[int],
    record: Mapping[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """Append a class to a GMMSeg network.

    Args:
        config: Config of the network; it is not changed.
        checkpoint: Its checkpoint; it is not changed.
        name: Name of the class.
        mixture: Its mixture.
        color: Its colour, RGB.
        record: What is known of the fit, for the checkpoint's meta; ``fitted_images`` are the hashes of the images.

    Returns:
        The new config, and the new checkpoint: weights and meta, without the state of a training.

    Raises:
        InputError: The config does not name the classes of its datasets.
    """
    config = copy.deepcopy(config)
    prefix, head = _head(config)
    classes, added = head["num_classes"], head["mixture"].get("added_classes", 0)
    head["num_classes"], head["mixture"]["added_classes"] = classes + 1, added + 1
    name_class(config, name, color)
    weights = {f"{prefix}{added}.{key}": value for key, value in mixture.state_dict().items()}
    meta = copy.deepcopy(dict(checkpoint.get("meta") or {}))
    _change_lists(meta, classes, lambda values, new: [*values, new], name, list(color))
    records = [*(meta.get(_RECORD) or {}).get("added_classes", []), {"name": name, **record}]
    _write_records(meta, records)
    return config, {"state_dict": {**checkpoint["state_dict"], **weights}, "meta": meta}


def remove_class(config: Any, checkpoint: Mapping[str, Any], name: str) -> tuple[Any, dict[str, Any]]:
    """Remove a class that :func:`add_class` appended; config, weights and meta become what they were without it.

    Args:
        config: Config of the network; it is not changed.
        checkpoint: Its checkpoint; it is not changed.
        name: Name of the class.

    Returns:
        The new config and the new checkpoint.

    Raises:
        InputError: The class was not added to this network, or config and checkpoint do not belong together.
    """
    meta = copy.deepcopy(dict(checkpoint.get("meta") or {}))
    records = (meta.get(_RECORD) or {}).get("added_classes", [])
    names = [record["name"] for record in records]
    if name not in names:
        raise InputError(
            f"--name: expected a class that was added to this network ({', '.join(names) or 'it has none'}), found "
            f"{name!r}; trained classes cannot be removed"
        )
    config, place = copy.deepcopy(config), names.index(name)
    prefix, head = _head(config)
    classes, added = head["num_classes"], (head.get("mixture") or {}).get("added_classes", 0)
    if added != len(names):
        raise InputError(
            f"config {config.filename}: expected added_classes={len(names)}, as the checkpoint has {', '.join(names)}, "
            f"found {added}; use the config that was written with the checkpoint"
        )
    head["num_classes"], head["mixture"]["added_classes"] = classes - 1, added - 1
    if added == 1:
        del head["mixture"]["added_classes"]
    index = classes - added + place
    unname_class(config, index)
    weights = {}
    for key, value in checkpoint["state_dict"].items():
        found = re.fullmatch(rf"{re.escape(prefix)}(\d+)\.(\w+)", key)
        number = -1 if found is None else int(found[1])
        if number != place:
            weights[f"{prefix}{number - 1}.{found[2]}" if found and number > place else key] = value
    _change_lists(meta, classes, lambda values, _: [*values[:index], *values[index + 1 :]])
    _write_records(meta, [*records[:place], *records[place + 1 :]])
    return config, {"state_dict": weights, "meta": meta}


def _head(config: Any) -> tuple[str, Any]:
    """Prefix of the added mixtures in a state dict, before their numbers, and the settings of the generative head."""
    heads = config.model["decode_head"]
    if isinstance(heads, Mapping):
        return "decode_head.classifier.added.", heads
    return f"decode_head.{len(heads) - 1}.classifier.added.", heads[-1]


def _change_lists(
    meta: dict[str, Any], classes: int, change: Callable[[Any, Any], list[Any]], name: Any = None, color: Any = None
) -> None:
    """Change the lists of classes and colours in a checkpoint's meta, in mmengine's layout or the published one."""
    for place in (meta, meta.get("dataset_meta")):
        if not isinstance(place, dict):
            continue
        for key, new in {"classes": name, "palette": color, "CLASSES": name, "PALETTE": color}.items():
            if isinstance(values := place.get(key), list | tuple) and len(values) == classes:
                place[key] = type(values)(change(values, new))


def _write_records(meta: dict[str, Any], records: list[dict[str, Any]]) -> None:
    images = sorted({image for record in records for image in record["fitted_images"]})
    meta.pop(_RECORD, None)
    if records:
        meta[_RECORD] = {"added_classes": records, "fitted_images": images}
