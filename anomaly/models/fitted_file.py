"""The file of what was fitted to training images: densities of features, and what scores learned. It runs no code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.models.backbone import Backbone, load_backbone
from anomaly.models.base import Model
from anomaly.models.fitted import FeatureDensity, FittedModel, Member, model_identity
from anomaly.utils.file_records import file_record
from anomaly.utils.state_file import read_state, write_state

KIND = "what was fitted to training images"
TENSORS = ("float32", "float64", "int64")
LOCATION = ("spec",)
"""Entries of a backbone's record that say where it was found, not what it is."""


def save_fitted(path: str | Path, model: FittedModel) -> None:
    """Write all that was fitted to training images, but not the networks themselves, to one file.

    Args:
        path: The file; its name ends in ``.npz``. It appears whole or not at all.
        model: The model.

    Raises:
        InputError: The name has another ending, or the file cannot be written.
    """
    tensors: list[Tensor] = []
    members = []
    for member in model.members:
        assert member.densities is not None
        state = member.densities.state_dict()
        kept = {one.name: getattr(member.settings, one.name) for one in fields(member.settings)}
        for name in ("backbone", "mean", "std"):
            del kept[name]
        members.append(
            {
                "settings": kept,
                "backbone": None if member.backbone is None else member.backbone.record,
                "weight": member.weight,
                "shape": [member.densities.num_classes, member.densities.dim],
                "outliers": member.densities.outliers is not None,
                "tensors": list(state),
            }
        )
        tensors += state.values()
    learned, more = model.statistics or (None, [])
    header = {
        "network": None if model.base is None else model_identity(model.base),
        "classes": list(model.classes),
        "images": sorted(model.fitted_images),
        "record": model.fit_record,
        "members": members,
        "statistics": learned,
    }
    write_state(Path(path), header, (each.detach().cpu().numpy() for each in (*tensors, *more)), KIND)


def load_fitted(
    path: str | Path,
    network: Model | None = None,
    *,
    backbones: Sequence[str | nn.Module | Backbone] = (),
    device: str | None = None,
) -> FittedModel:
    """Read what was fitted to training images, and join it with the network and the backbones it was fitted to.

    Args:
        path: File of :func:`save_fitted`. Only arrays and plain values are read from it.
        network: The network; None for a detector without one.
        backbones: Where the backbones are found, in the order of the densities that have one, if not where they were
            when the densities were fitted. A ``FILE.PY:NAME`` or an ``nn.Module`` must be named here, because its code
            is executed.
        device: Device of the backbones without a network.

    Raises:
        InputError: The file is missing, damaged or another one, or a network or backbone is missing or another one
            than it was fitted to.
    """
    with read_state(Path(path), KIND) as (header, arrays):
        network_identity = header["network"]
        members = [dict(entry) for entry in header["members"]]
        states = [_state(arrays, entry["tensors"]) for entry in members]
        learned = header["statistics"]
        statistics = None if learned is None else (learned, [_tensor(next(arrays)) for _ in learned["tensors"]])
        classes, images = tuple(map(str, header["classes"])), frozenset(map(str, header["images"]))
        record = dict(header["record"])
        settings = [_settings(entry["settings"]) for entry in members]
        densities = []
        for one, entry, state in zip(settings, members, states, strict=True):
            count, dim = (int(number) for number in entry["shape"])
            each = one.densities(dim, count, labelled=bool(record.get("labels")), outliers=bool(entry["outliers"]))
            each.load_state_dict(state)
            densities.append(each)
        weights = [float(entry["weight"]) for entry in members]
        own = [entry["backbone"] for entry in members]
    _check_network(Path(path), network_identity, network)
    where = None if network is None else getattr(network, "device", None)
    given = iter(backbones)
    found: list[Backbone | None] = []
    loaded: dict[str, Backbone] = {}
    for expected in own:
        if expected is None:
            found.append(None)
            continue
        found.append(_backbone(Path(path), expected, next(given, None), where or device, loaded))
    if (extra := next(given, None)) is not None:
        raise InputError(f"{path}: expected fewer backbones, found {extra} too; name one for each density that has one")
    model = FittedModel(
        network,
        [
            Member(replace(one, backbone=None if body is None else body.record.get("spec", "")), each, body, weight)
            for one, each, body, weight in zip(settings, densities, found, weights, strict=True)
        ],
        fitted_images=images,
        statistics=statistics,
        classes=classes,
        record=record,
    )
    model.inputs["fitted"] = {**file_record(Path(path)), "images": sorted(images)}
    return model


def _state(arrays: Iterator[npt.NDArray[Any]], names: Sequence[str]) -> dict[str, Tensor]:
    return {str(name): _tensor(next(arrays)) for name in names}


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    if array.dtype.name not in TENSORS or np.isnan(array).any():
        raise ValueError(f"expected arrays of {', '.join(TENSORS)} without NaN")
    return torch.from_numpy(array)


def _settings(found: dict[str, Any]) -> FeatureDensity:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return FeatureDensity(**values)


def _check_network(path: Path, expected: dict[str, Any] | None, network: Model | None) -> None:
    if expected is None and network is not None:
        raise InputError(
            f"{path}: expected no network, since this is a detector of its own, found one too; pass the file as the "
            "model, without another"
        )
    if expected is None:
        return
    if network is None:
        raise InputError(
            f"{path}: expected the network it was fitted to ({expected.get('type', 'a model')}), found none; name the "
            "network as the model, and this file with --fitted (fitted= in Python)"
        )
    own = model_identity(network)
    if changed := sorted(key for key in {**own, **expected} if own.get(key) != expected.get(key)):
        raise InputError(
            f"{path}: expected the network it was fitted to, found one with other {changed[0]}; fit again, with "
            "`anomaly fit`"
        )


def _backbone(path: Path, expected: dict[str, Any], given: Any, device: Any, loaded: dict[str, Backbone]) -> Backbone:
    """The backbone of a density, which is the one that it was fitted to."""
    spec = expected.get("spec") if given is None else given
    if given is None and (spec is None or ".py:" in str(spec)):
        raise InputError(
            f"{path}: expected the backbone {spec or expected.get('type')} to be named, because its code is executed, "
            "found none; name it with --backbone (backbones= in Python)"
        )
    key = f"{spec} {expected['stages']}"
    if key in loaded:
        return loaded[key]
    how = {"stages": expected["stages"], "mean": expected["mean"], "std": expected["std"], "device": device}
    found = spec if isinstance(spec, Backbone) else load_backbone(spec, **how)  # type: ignore[arg-type]
    names = {*expected, *found.record} - {*LOCATION}
    if changed := sorted(name for name in names if found.record.get(name) != expected.get(name)):
        raise InputError(
            f"{path}: expected the backbone that the densities were fitted to, found one with other {changed[0]}; name "
            "that backbone, or fit again"
        )
    loaded[key] = found
    return found
