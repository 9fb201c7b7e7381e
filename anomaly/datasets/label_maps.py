"""Recognition of label maps among images, by the layouts of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from anomaly.datasets.catalog import SETS
from anomaly.datasets.images import is_one_channel

FOLDER = ".labels"  # suffix of folders that hold the label maps of one image


def find_label_maps(folder: Path, files: Iterable[Path]) -> set[Path]:
    """Find the files of a folder that are label maps, not images.

    These are: all files in folders named ``NAME.labels``; one-channel images that match the label pattern of a layout
    in the catalogue and whose image in that layout exists; and other files in the same folder, such as colour versions
    of the labels, unless the folder also holds their images.

    Args:
        folder: Folder of the files; the names of folders above it are not considered.
        files: Files below the folder.
    """
    paths = {PurePosixPath(path.relative_to(folder).as_posix()): path for path in files}
    maps = {short for short in paths if any(part.lower().endswith(FOLDER) for part in short.parts[:-1])}
    rest = sorted(paths.keys() - maps)
    layouts = {(layout.labels, layout.images): layout for one in SETS.values() for layout in one.layouts}
    pairs = [pair for layout in layouts.values() for pair in layout.pairs(rest) if is_one_channel(paths[pair[0]])]
    label_folders = {label.parent for label, _ in pairs} - {image.parent for _, image in pairs}
    maps |= {label for label, _ in pairs} | {short for short in rest if short.parent in label_folders}
    return {paths[short] for short in maps}
