"""Images that two datasets share, found by the content of their files."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from pathlib import Path

from anomaly.datasets.dataset import Dataset, FrameFiles


def shared_images(first: Dataset, second: Dataset) -> list[str]:
    """List the frames of ``second`` whose image also belongs to ``first``.

    Files of equal size are compared byte by byte. An image that was saved again in another format is not found here;
    an evaluation compares pixels when it reads the images.

    Args:
        first: A dataset.
        second: Another dataset.

    Returns:
        Ids of the frames of ``second``, in its order.
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
    """List the files that make up the image of a frame."""
    return (files.image,) if files.overlay is None else (files.image, files.overlay)


def _sizes(files: FrameFiles) -> tuple[int, ...]:
    return tuple(path.stat().st_size for path in _sources(files))


def _equal(first: tuple[Path, ...], second: tuple[Path, ...]) -> bool:
    pairs = zip(first, second, strict=True)  # equally many sizes, so equally many files
    return all(one.samefile(other) or filecmp.cmp(one, other, shallow=False) for one, other in pairs)
