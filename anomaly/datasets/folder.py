"""Any pair of folders as an evaluation set, with the meaning of the label values said by whoever asks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from anomaly.datasets.images import PHOTO_SUFFIXES, read_label
from anomaly.datasets.label_counts import shares_of
from anomaly.datasets.layout import Encoding
from anomaly.datasets.split import FrameFiles, Split
from anomaly.errors import InputError
from anomaly.labels import ANOMALY, IGNORE, KNOWN

_OTHER_PICTURES = (".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif")
MEANINGS = {"known": KNOWN, "anomaly": ANOMALY, "ignore": IGNORE}


def parse_encoding(texts: Sequence[str]) -> Encoding:
    """Read the meaning of label values from words such as ``0=known``, ``2,5-9=anomaly``, ``255=ignore``.

    Raises:
        InputError: A word has another form, a value is not in 0 to 255 or has two meanings, or no value is an anomaly.
    """
    encoding: dict[int, int] = {}
    for text in texts:
        values, _, meaning = text.partition("=")
        if meaning not in MEANINGS:
            raise InputError(f"label values: expected VALUES=MEANING with one of {', '.join(MEANINGS)}, found {text!r}")
        for part in values.split(","):
            first, dash, last = part.partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > 255:
                raise InputError(
                    f"label values: expected numbers from 0 to 255 such as 2,5-9, found {part!r} in {text!r}"
                )
            if int(last or first) < int(first):
                raise InputError(f"label values: expected the smaller number first, found {part!r} in {text!r}")
            for value in range(int(first), int(last or first) + 1):
                if encoding.setdefault(value, MEANINGS[meaning]) != MEANINGS[meaning]:
                    raise InputError(f"label values: expected one meaning of {value}, found two; correct {text!r}")
    if ANOMALY not in encoding.values():
        raise InputError("label values: expected one that means an anomaly, such as 1=anomaly, found none; add it")
    return encoding


def open_folders(name: str, images: Path, labels: Path, encoding: Encoding | None) -> Split:
    """Pair photographs and label maps below two folders by their paths without suffix.

    Args:
        name: Name that the split gets.
        images: Folder with photographs, at any depth.
        labels: Folder with label maps in PNG files, at any depth; each has a photograph and each
            photograph a label map.
        encoding: What the label values mean; another value is an error when it is read. It is never guessed: without
            it the error says which values there are.

    Raises:
        InputError: A folder is missing or empty, two photographs have one name, one of a pair is missing, or there is
            no encoding.
    """
    photos = _files(images, PHOTO_SUFFIXES)
    maps = _files(labels, (".png",))
    if orphans := sorted(maps.keys() - photos.keys()):
        raise InputError(
            f"{images}: expected a photograph for every label map of {labels}, found none for {orphans[0]!r} "
            f"({len(orphans)} of {len(maps)}); give both the same names"
        )
    if bare := sorted(photos.keys() - maps.keys()):
        raise InputError(
            f"{labels}: expected a label map for every photograph of {images}, found none for {bare[0]!r} "
            f"({len(bare)} of {len(photos)}); give both the same names, or take out what is not to be measured"
        )
    if encoding is None:
        raise InputError(_undeclared(labels, maps.values()))
    files = tuple(FrameFiles(frame, photos[frame], path) for frame, path in sorted(maps.items()))
    return Split(name, labels, f"photographs of {images.name} and label maps of {labels.name} by name", files, encoding)


def _undeclared(labels: Path, maps: Iterable[Path]) -> str:
    """Say which values label maps have, and how to declare their meaning."""
    counts = Counter[int]()
    for path in maps:
        values, times = np.unique(read_label(path), return_counts=True)
        counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    if counts.keys() == {0, 255}:
        example = "0=known 255=anomaly, or 0=known 255=ignore beside another value for the anomaly"
    elif counts.keys() <= {0, 1, 255}:
        example = "0=known 1=anomaly 255=ignore"
    else:
        example = " ".join(f"{value}=known|anomaly|ignore" for value in sorted(counts)[:4])
    return (
        f"{labels}: expected a meaning for each label value, which is never guessed, found none for the values "
        f"{shares_of(counts)}; declare what they mean, such as --label-values {example}"
    )


def find_photographs(folder: Path) -> list[tuple[str, Path]]:
    """List the photographs below a folder, at any depth: the path without suffix, and the file, in the order of names.

    Warns of pictures of other formats, which are left out.

    Raises:
        InputError: The folder is missing or empty, or two photographs have one name.
    """
    found = sorted(_files(folder, PHOTO_SUFFIXES).items())
    left = sorted(path.name for path in folder.rglob("*") if path.suffix.lower() in _OTHER_PICTURES)
    if left:
        warnings.warn(
            f"{folder}: {len(left)} pictures such as {left[0]} are left out: only files that end in "
            f"{', '.join(PHOTO_SUFFIXES)} are read",
            stacklevel=2,
        )
    return found


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a folder, found {'a file' if folder.exists() else 'none'}; check the path"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(
                f"{folder}: expected one file {name!r}, found {found[name].name} and {path.name}; remove one"
            )
        found[name] = path
    if not found:
        raise InputError(f"{folder}: expected files that end in {', '.join(suffixes)}, found none; check the path")
    return found
