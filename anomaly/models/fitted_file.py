"""The file of what was fitted to training images: densities of features, and what scores learned. It runs no code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anomaly.density.densities import ClassDensities
from anomaly.errors import InputError
from anomaly.models.backbone import Backbone, load_backbone
from anomaly.models.base import Model
from anomaly.models.feature_density import FeatureDensity, parse_density
from anomaly.models.fitted import FittedModel, Member, model_identity
from anomaly.utils.file_records import file_record
from anomaly.utils.given import plain
from anomaly.utils.state_file import read_state, write_state

KIND = "what was fitted to training images"
PREPROCESSING = ("stages", "mean", "std")
"""Entries of a backbone's record that it is loaded with."""
TENSORS = ("float32", "float64", "int64")


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
        densities = member.densities
        state = {} if densities is None else densities.state_dict()
        members.append(
            {
                "settings": member.settings.plain(),
                "backbone": None if member.backbone is None else member.backbone.record,
                "weight": member.weight,
                "shape": None if densities is None else [densities.num_classes, densities.dim],
                "outliers": member.has_outliers,
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
        backbones: Where the backbones are found now, every one, in the order of the densities that have one; empty if
            all are where they were when the densities were fitted. A ``FILE.PY:NAME`` or an ``nn.Module`` must be named
            here, because its code is executed.
        device: Device of the backbones of a detector; with a network it is that of the network.

    Returns:
        The model.

    Raises:
        InputError: The file is missing, damaged or another one, or a network or backbone is missing or another one
            than it was fitted to.
    """
    with read_state(Path(path), KIND) as (header, arrays):
        network_identity = None if header["network"] is None else dict(header["network"])
        members = [dict(entry) for entry in header["members"]]
        states = [_state(arrays, entry["tensors"]) for entry in members]
        learned = header["statistics"]
        statistics = None if learned is None else (learned, [_tensor(next(arrays)) for _ in learned["tensors"]])
        classes, images = tuple(map(str, header["classes"])), frozenset(map(str, header["images"]))
        record = dict(header["record"])
        records = [_backbone_record(entry["backbone"]) for entry in members]
        settings = [_settings(entry["settings"], each) for entry, each in zip(members, records, strict=True)]
        densities: list[ClassDensities | None] = []
        for one, entry, state in zip(settings, members, states, strict=True):
            if not one.fitted:
                densities.append(None)
                continue
            count, dim = (int(number) for number in entry["shape"])
            each = one.densities(dim, count, labelled=bool(record.get("labels")), outliers=bool(entry["outliers"]))
            each.load_state_dict(state)
            densities.append(each)
        weights = [float(entry["weight"]) for entry in members]
    _check_network(Path(path), network_identity, network)
    device = device if network is None else getattr(network, "device", None)
    bodies = _backbones(Path(path), records, backbones, device)
    model = FittedModel(
        network,
        [Member(*parts) for parts in zip(settings, bodies, densities, weights, strict=True)],
        fitted_images=images,
        statistics=statistics,
        classes=classes,
        record=record,
    )
    model.title = Path(path).stem
    model.inputs["fitted"] = {**file_record(Path(path)), "images": sorted(images)}
    return model


def _state(arrays: Iterator[npt.NDArray[Any]], names: Sequence[str]) -> dict[str, Tensor]:
    return {str(name): _tensor(next(arrays)) for name in names}


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    if array.dtype.name not in TENSORS or np.isnan(array).any():
        raise ValueError(f"expected arrays of {', '.join(TENSORS)} without NaN")
    return torch.from_numpy(array)


def _place(one: Any) -> Any:
    """Where a backbone is found, of a specification with or without the settings that the file has anyway."""
    if isinstance(one, str):
        one = parse_density(one)
    return one.backbone if isinstance(one, FeatureDensity) else one


def _backbone_record(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if not isinstance(found.get("spec"), str | None):
        raise ValueError(f"expected a text for the place of a backbone, found {found['spec']!r}")
    return {**found, **{name: list(found[name]) for name in PREPROCESSING}}


def _settings(found: dict[str, Any], backbone: dict[str, Any] | None) -> FeatureDensity:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return FeatureDensity(**values, backbone=None if backbone is None else str(backbone.get("spec", "")))


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
            f"{path}: expected the network it was fitted to, found one with other {', '.join(changed)}; fit "
            "again, with `anomaly fit`"
        )


def _backbones(
    path: Path, records: Sequence[dict[str, Any] | None], given: Sequence[Any], device: Any
) -> list[Backbone | None]:
    """The backbone of each density; densities of the same one share it.

    Args:
        path: The file, for messages.
        records: What identifies each backbone; None for the features of the network.
        given: Where the backbones are found, if not where they were.
        device: Device of the backbones.
    """
    if len(given) > (most := len(records) - records.count(None)):
        raise InputError(
            f"{path}: expected at most {most} backbones, one for each density that has one, found {len(given)}; name "
            "fewer"
        )
    if given and len(given) < most:
        known = ", ".join(str(one.get("spec") or one.get("type")) for one in records if one is not None)
        raise InputError(
            f"{path}: expected all {most} backbones in this order: {known}, found {len(given)}; name every one, also "
            "those that have not moved"
        )
    places, loaded = iter(map(_place, given)), list[tuple[Any, Any, Backbone]]()
    found: list[Backbone | None] = []
    for record in records:
        if record is None:
            found.append(None)
            continue
        spec = next(places, None)
        if spec is None:
            spec = record.get("spec")
            if spec is None or ".py:" in spec:
                raise InputError(
                    f"{path}: expected the backbone {spec or record.get('type')} to be named, because its code is "
                    "executed, found none; name it after the file, as --fitted FILE BACKBONE (backbones= in Python)"
                )
        how = {name: record[name] for name in PREPROCESSING}
        body = next((each for other, same, each in loaded if (other, same) == (spec, how)), None)
        if body is None:
            try:
                body = spec if isinstance(spec, Backbone) else load_backbone(spec, **how, device=device)
            except InputError as error:
                expected = record.get("spec") or record.get("type")
                raise InputError(
                    f"{path}: backbone {len(found) + 1}, expected {expected}, found {spec}: {error}"
                ) from error
            loaded.append((spec, how, body))
        own = plain(body.record)
        if changed := sorted(
            name for name in {**own, **record} if name != "spec" and own.get(name) != record.get(name)
        ):
            raise InputError(
                f"{path}: expected the backbone that the densities were fitted to, found one with other "
                f"{', '.join(changed)}; name that backbone, or fit again"
            )
        found.append(body)
    return found
