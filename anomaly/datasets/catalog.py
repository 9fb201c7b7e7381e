"""The catalogue of datasets by name.

To add a dataset, write a module with ``SETS`` in this folder and its test, and add the module to ``_FILES``.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from anomaly.datasets import (
    bdd_anomaly,
    camvid_ood,
    closed_sets,
    fishyscapes_lost_and_found,
    fishyscapes_static,
    lost_and_found,
    pasted_objects,
    road_anomaly,
    segment_me_if_you_can,
    small_obstacle,
    street_hazards,
    street_obstacle_sequences,
    street_scenes,
)
from anomaly.datasets.dataset import Dataset
from anomaly.datasets.entry import CatalogEntry
from anomaly.errors import InputError
from anomaly.utils.names import by_name

_FILES = (
    street_scenes,
    pasted_objects,
    road_anomaly,
    fishyscapes_lost_and_found,
    fishyscapes_static,
    segment_me_if_you_can,
    lost_and_found,
    street_hazards,
    bdd_anomaly,
    camvid_ood,
    small_obstacle,
    street_obstacle_sequences,
    closed_sets,
)
SETS: dict[str, CatalogEntry] = by_name((one for file in _FILES for one in file.SETS), "datasets")


def load_dataset(name: str, root: str | Path = "data", *, as_found: bool = False) -> Dataset:
    """Open a dataset of the catalogue; its images are read on demand.

    Args:
        name: Name such as ``"road_anomaly"``; ``anomaly data list`` shows all names. The suffix ``-first`` or
            ``-second`` selects half of the frames.
        root: Folder that holds the datasets, or the folder of this dataset.
        as_found: Accept another number of frames or an unknown version.

    Raises:
        InputError: The name is unknown, or the dataset is missing, incomplete or not as published; the message says
            what to do.
    """
    if not isinstance(name, str):
        raise InputError(f"dataset: expected a name such as 'road_anomaly', found {type(name).__name__}; give a str")
    root = Path(root)
    whole, _, which = name.rpartition("-")
    if name not in SETS and in_catalogue(name):
        return load_dataset(whole, root, as_found=as_found).half("first" if which == "first" else "second")
    return find_entry(name).open(root, as_found=as_found)


def in_catalogue(name: str) -> bool:
    """Return whether a name belongs to a dataset of the catalogue, or to a half of one."""
    whole, _, which = name.rpartition("-")
    return name in SETS or (whole in SETS and which in ("first", "second"))


def open_anyhow(name: str, data_root: Path) -> tuple[Dataset, tuple[str, ...]]:
    """Open a dataset even if it is not as published.

    Args:
        name: Name of the dataset.
        data_root: Folder that holds the datasets, or the folder of this dataset.

    Returns:
        The dataset, and the errors that an evaluation without ``--as-found`` would raise.

    Raises:
        InputError: The dataset cannot be opened with ``as_found`` either.
    """
    try:
        return load_dataset(name, data_root), ()
    except InputError as error:
        return load_dataset(name, data_root, as_found=True), (str(error),)


def find_entry(name: str) -> CatalogEntry:
    """Return the entry of the catalogue with a name.

    Raises:
        InputError: There is no such entry; the message lists the closest names.
    """
    whole, _, half = name.rpartition("-")
    if half in ("first", "second") and whole in SETS:
        raise InputError(
            f"expected the name of a whole dataset, found {name!r}, a half that only evaluations accept; give {whole!r}"
        )
    if name not in SETS:
        closest_first = difflib.get_close_matches(name, SETS, n=8, cutoff=0.0)
        raise InputError(
            f"unknown dataset {name!r}; give one of (closest first) {', '.join(closest_first)}, ... (anomaly data list "
            "shows all)"
        )
    return SETS[name]
