"""Label maps that lie among images, told by the layouts of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from anomaly.datasets.catalog import SETS
from anomaly.datasets.images import is_one_channel

FOLDER = ".labels"  # ends the name of a folder that holds one image's label maps


def find_label_maps(folder: Path, files: Iterable[Path]) -> set[Path]:
    """Tell which of a folder's files are label maps, and not images.

    These are all files in folders named ``NAME.labels``; pictures of one channel that fit the label maps of a layout in
    the catalogue, where an image is there that the layout gives to them; and what lies in one folder with these, such
    as their colour versions, if none of their images does.

    Args:
        folder: Where the files are; the folders above it tell nothing.
        files: Files below the folder.
    """
    paths = {PurePosixPath(path.relative_to(folder).as_posix()): path for path in files}
    found = {short for short in paths if any(part.lower().endswith(FOLDER) for part in short.parts[:-1])}
    rest = sorted(paths.keys() - found)
    layouts = {(layout.labels, layout.images): layout for one in SETS.values() for layout in one.layouts}
    pairs = [pair for layout in layouts.values() for pair in layout.pairs(rest) if is_one_channel(paths[pair[0]])]
    label_folders = {label.parent for label, _ in pairs} - {image.parent for _, image in pairs}
    found |= {label for label, _ in pairs} | {short for short in rest if short.parent in label_folders}
    return {paths[short] for short in found}
