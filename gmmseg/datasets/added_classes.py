"""A dataset for a network to which classes were added: the same images and labels, and a longer list of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS

from anomaly.errors import InputError
from gmmseg.registry import DATASETS

TYPE = "gmmseg.DatasetWithAddedClasses"
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_Settings = Mapping[str, Any]


@DATASETS.register_module(TYPE.partition(".")[2])
def dataset_with_added_classes(*, of: _Settings, metainfo: _Settings, **settings: Any) -> BaseSegDataset:
    """Build a dataset, and name further classes after its own. A label map that has their indices labels them.

    mmseg's datasets refuse class names that are not among their own.

    Args:
        of: ``type`` of the dataset, and its own ``metainfo`` if the config gives one.
        metainfo: All ``classes``, and their ``palette`` if it is known; mmseg draws one otherwise.
        **settings: Other arguments of the dataset.
    """
    dataset = MMSEG_DATASETS.build({**settings, **of})
    dataset._metainfo.update(classes=tuple(metainfo["classes"]), palette=list(metainfo.get("palette", ())))
    dataset._metainfo["palette"] = dataset._update_palette()
    return dataset


def name_class(config: Any, name: str, color: Sequence[int]) -> None:
    """Add the name of a class to every dataset of a config, in place.

    Args:
        config: An mmengine config.
        name: The class.
        color: Its colour, RGB.

    Raises:
        InputError: The classes of a dataset are not known.
    """

    def named(settings: _Settings) -> dict[str, Any]:
        of = settings["of"] if settings["type"] == TYPE else _own(settings)
        known = _known(settings)
        classes, palette = known.get("classes"), known.get("palette")
        if not classes:
            raise InputError(
                f"config {config.filename}: expected a dataset with class names, found {settings['type']} without any; "
                "add metainfo=dict(classes=...) to it"
            )
        metainfo: dict[str, Any] = {"classes": [*classes, name]}
        if palette and len(palette) == len(classes):
            metainfo["palette"] = [*palette, list(color)]
        return {**settings, "type": TYPE, "of": of, "metainfo": metainfo}

    _change(config, named)


def palette_of(config: Any) -> Sequence[Sequence[int]]:
    """Colours of the classes of a config's validation data; empty if they are not known."""
    init_default_scope(config.get("default_scope", "mmseg"))
    settings = (config.get("val_dataloader") or {}).get("dataset") or {}
    return _known(settings).get("palette") or () if "type" in settings else ()


def unname_class(config: Any, index: int) -> None:
    """Remove an added class from every dataset of a config, in place.

    Args:
        config: A config of :func:`name_class`.
        index: Index of the class.
    """

    def unnamed(settings: _Settings) -> dict[str, Any]:
        metainfo = {key: [*values[:index], *values[index + 1 :]] for key, values in settings["metainfo"].items()}
        if len(metainfo["classes"]) > len(_known(settings["of"])["classes"]):
            return {**settings, "metainfo": metainfo}
        return {key: value for key, value in settings.items() if key not in ("of", "metainfo")} | settings["of"]

    _change(config, unnamed)


def _own(settings: _Settings) -> dict[str, Any]:
    return {key: settings[key] for key in ("type", "metainfo") if key in settings}


def _known(settings: _Settings) -> dict[str, Any]:
    """Classes and palette that a dataset has, from its type and its settings."""
    kind = settings["type"]
    dataset = MMSEG_DATASETS.get(kind) if isinstance(kind, str) else kind
    return {**getattr(dataset, "METAINFO", {}), **(settings.get("metainfo") or {})}


def _change(config: Any, change: Callable[[_Settings], dict[str, Any]]) -> None:
    """Replace the settings of every dataset, also of those in wrappers that repeat or join datasets."""

    def changed(settings: _Settings) -> dict[str, Any]:
        if "datasets" in settings:
            return {**settings, "datasets": [changed(part) for part in settings["datasets"]]}
        if "dataset" in settings:
            return {**settings, "dataset": changed(settings["dataset"])}
        return change(settings)

    init_default_scope(config.get("default_scope", "mmseg"))
    for loader in _LOADERS:
        if config.get(loader):
            config[loader]["dataset"] = changed(config[loader]["dataset"])
