"""Images that two datasets share, by what is in the files and whatever the datasets are called."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from pathlib import Path

from anomaly.datasets.dataset import Dataset, FrameFiles


def shared_images(first: Dataset, second: Dataset) -> list[str]:
    """List the frames of ``second`` whose image is one of ``first`` too.

    Files are compared byte by byte, which takes no time where their sizes differ. An image that was stored anew, in
    another format, is not found here: an evaluation compares the pixels when it reads them.

    Args:
        first: A dataset.
        second: Another.

    Returns:
        Ids of frames of ``second``, in its order.
    """
    by_size: dict[tuple[int, ...], list[tuple[Path, ...]]] = defaultdict(list)
    for files in first.files:
        by_size[_sizes(files)].append(_sources(files))
    return [
        files.id
        for files in second.files
        if any(_equal(_sources(files), other) for other in by_size.get(_sizes(files), ()))
    ]


def _sources(files: FrameFiles) -> tuple[Path, ...]:
    """The files that a frame's image is made of."""
    return (files.image,) if files.overlay is None else (files.image, files.overlay)


def _sizes(files: FrameFiles) -> tuple[int, ...]:
    return tuple(path.stat().st_size for path in _sources(files))


def _equal(first: tuple[Path, ...], second: tuple[Path, ...]) -> bool:
    pairs = zip(first, second, strict=True)  # as many sizes, so as many files
    return all(one.samefile(other) or filecmp.cmp(one, other, shallow=False) for one, other in pairs)
