"""The sets by name; a new one is a file beside this one, its test and its place in ``_FILES``."""

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


def load_dataset(name: str, data_root: Path, *, as_found: bool = False) -> Dataset:
    """Open a set; its frames are read only when asked for.

    Args:
        name: A key of ``SETS``, or one with ``-first`` or ``-second`` for half of the set's frames.
        data_root: Folder that holds the sets, or the folder of this set itself.
        as_found: Take it as it is, although it has another number of frames or an unknown version.

    Raises:
        InputError: The name is unknown, or whatever :meth:`CatalogEntry.open` finds wrong with the set.
    """
    whole, _, which = name.rpartition("-")
    if name not in SETS and in_catalogue(name):
        return load_dataset(whole, data_root, as_found=as_found).half("first" if which == "first" else "second")
    return find_entry(name).open(data_root, as_found=as_found)


def in_catalogue(name: str) -> bool:
    """Whether a name is that of a set of the catalogue, or of a half of one."""
    whole, _, which = name.rpartition("-")
    return name in SETS or (whole in SETS and which in ("first", "second"))


def open_anyhow(name: str, data_root: Path) -> tuple[Dataset, tuple[str, ...]]:
    """Open a set, though it be as found, with what evaluations would refuse it for.

    Raises:
        InputError: As :func:`load_dataset` with ``as_found``.
    """
    try:
        return load_dataset(name, data_root), ()
    except InputError as error:
        return load_dataset(name, data_root, as_found=True), (str(error),)


def find_entry(name: str) -> CatalogEntry:
    """Give the catalogue's entry of that name.

    Raises:
        InputError: There is none; the closest names are told.
    """
    whole, _, half = name.rpartition("-")
    if half in ("first", "second") and whole in SETS:
        raise InputError(f"{name} is a half of the set {whole!r}, which evaluations take; name the whole set here")
    if name not in SETS:
        closest_first = difflib.get_close_matches(name, SETS, n=8, cutoff=0.0)
        raise InputError(
            f"unknown set {name!r}; correct it to one of (closest first) {', '.join(closest_first)}, ... "
            "(tools/prepare_data.py list has all)"
        )
    return SETS[name]
