"""RoadAnomaly: 60 photographs of unusual dangers on the road.

Lis et al., "Detecting the Unexpected via Image Resynthesis", ICCV 2019. The label files hold 0 (known) and 2
(anomaly), and nothing is ignored. Widespread copies have been rewritten to 0 and 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from anomaly.datasets.images import find_photos, read_label
from anomaly.datasets.split import FrameFiles, Split
from anomaly.errors import InputError
from anomaly.labels import ANOMALY, KNOWN

LAYOUT = "frames/NAME.jpg (or .webp, .png) + frames/NAME.labels/labels_semantic.png, frame_list.json optional"
HOME = "https://www.epfl.ch/labs/cvlab/data/road-anomaly/"

PUBLISHED = {0: KNOWN, 2: ANOMALY}
REWRITTEN = {0: KNOWN, 1: ANOMALY}


def read_split(name: str, root: Path) -> Split | None:
    """Open a set in RoadAnomaly's layout.

    ``frame_list.json`` decides which frames belong to the set and in what order. Without it all photographs
    do, in the order of their names.

    A set is in one encoding, which its first label with an anomaly decides: the published one, or the
    rewritten one where that label has 1 and no 2. Reading a frame with the other encoding's value is an
    error: nothing says what it means there.

    Args:
        name: Name that the split gets.
        root: Folder that holds ``frames``.

    Returns:
        The split, or ``None`` where ``root`` has no folder ``frames``.

    Raises:
        InputError: ``frame_list.json`` is not a list of file names, a frame lacks its photograph or label, a
            frame has two photographs and no list says which, or there are no frames.
    """
    frames = root / "frames"
    if not frames.is_dir():
        return None
    listing = root / "frame_list.json"
    if listing.is_file():
        photos = [frames / PurePosixPath(entry).name for entry in _read_list(listing)]
    else:
        photos = find_photos(frames, [folder.stem for folder in frames.glob("*.labels")])
    files = tuple(
        FrameFiles(photo.stem, photo, frames / f"{photo.stem}.labels" / "labels_semantic.png") for photo in photos
    )
    split = Split(name, root, LAYOUT, files, PUBLISHED)
    return replace(split, encoding=_encoding(split))


def _read_list(path: Path) -> list[str]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: expected a JSON list of file names, found no JSON ({error}); restore it") from error
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(
            f'{path}: expected a JSON list of file names such as "a.jpg", found something else; '
            "restore it, or remove it to take every photograph"
        )
    return entries


def _encoding(split: Split) -> Mapping[int, int]:
    for files in split.files:
        values = read_label(files.label)
        if values.any():
            return REWRITTEN if (values == 1).any() and not (values == 2).any() else PUBLISHED
    return PUBLISHED
