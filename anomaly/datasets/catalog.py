"""The evaluation sets by name; a new set is one file beside this one, its test and one line of ``SPLITS``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anomaly.datasets import camvid_ood, road_anomaly
from anomaly.datasets.split import Split
from anomaly.errors import InputError


@dataclass(frozen=True)
class SplitSource:
    """How a set is found and opened.

    Args:
        read: Takes the set's name and a folder; gives the split, or ``None`` where the folder does not
            hold the layout.
        folders: Where to look below the data folder, first match first; ``"."`` is the data folder itself.
        layout: The layout expected there, in words, for the message when the set is not found.
        obtain: How to get the data, as an instruction.
    """

    read: Callable[[str, Path], Split | None]
    folders: tuple[str, ...]
    layout: str
    obtain: str


# street_scenes is never taken from the bare data folder: one in the same layout may be RoadAnomaly itself.
SPLITS: dict[str, SplitSource] = {
    "street_scenes": SplitSource(
        road_anomaly.read_split,
        ("street_scenes/open_world", "open_world"),
        road_anomaly.LAYOUT,
        "generate it with `python tools/prepare_data.py street_scenes`",
    ),
    "road_anomaly": SplitSource(
        road_anomaly.read_split,
        ("road_anomaly", "road_anomaly/RoadAnomaly_jpg", "RoadAnomaly_jpg", "."),
        road_anomaly.LAYOUT,
        f"get it from {road_anomaly.HOME}",
    ),
    "camvid_ood": SplitSource(
        camvid_ood.read_split, ("camvid_ood", "."), camvid_ood.LAYOUT, f"get it from {camvid_ood.HOME}"
    ),
}


def open_split(name: str, data_root: Path) -> Split:
    """Open an evaluation set; its frames are read only when asked for.

    Args:
        name: A key of ``SPLITS``, or one with ``-first`` or ``-second`` for half of the set's frames.
        data_root: Folder that holds the sets, each in a folder of its name, or the folder of this set itself.

    Raises:
        InputError: The name is unknown, no folder holds the set's layout, or the set is incomplete.
    """
    whole, _, which = name.rpartition("-")
    if whole in SPLITS and which in ("first", "second"):
        return open_split(whole, data_root).half("first" if which == "first" else "second")
    if name not in SPLITS:
        closest_first = difflib.get_close_matches(name, SPLITS, n=len(SPLITS), cutoff=0.0)
        raise InputError(f"unknown set {name!r}; correct it to one of (closest first) {', '.join(closest_first)}")
    source = SPLITS[name]
    folders = [data_root / folder for folder in source.folders]
    for folder in folders:
        split = source.read(name, folder)
        if split is not None:
            return split
    looked_in = ", ".join(f"{folder} ({_found(folder)})" for folder in folders)
    raise InputError(
        f"{name}: expected {source.layout}, found it in none of {looked_in}; {source.obtain} and put it in {folders[0]}"
    )


def _found(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return "empty"
    return "holds " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
