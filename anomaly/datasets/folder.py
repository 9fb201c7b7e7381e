"""Your own folders of images and label maps as a dataset, with declared label values."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from anomaly.datasets.catalog import in_catalogue
from anomaly.datasets.dataset import Dataset, FrameFiles
from anomaly.datasets.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES, read_label
from anomaly.datasets.label_counts import shares_of
from anomaly.datasets.label_maps import find_label_maps
from anomaly.datasets.layout import Encoding
from anomaly.datasets.walk import files_below
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN

_PICTURES = (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)
_LABELS = (".png",)
_NO_LABELS = tuple(suffix for suffix in _PICTURES if suffix not in _LABELS)
MEANINGS = {"known": KNOWN, "anomaly": ANOMALY, "ignore": IGNORE}


def parse_encoding(texts: Sequence[str]) -> Encoding:
    """Parse the meaning of label values from texts such as ``0=known``, ``2,5-9=anomaly``, ``255=ignore``.

    Returns:
        ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each label value.

    Raises:
        InputError: A text has another form, a value is not in 0..255 or has two meanings, or no value is an anomaly.
    """
    encoding: dict[int, int] = {}
    for text in texts:
        values, _, meaning = text.partition("=")
        if meaning not in MEANINGS:
            raise InputError(
                f"label values: expected VALUES=MEANING with one of {', '.join(MEANINGS)}, found {text!r}; correct it"
            )
        for part in values.split(","):
            first, dash, last = part.partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > 255:
                raise InputError(
                    f"label values: expected numbers from 0 to 255 such as 2,5-9, found {part!r} in {text!r}; correct "
                    "it"
                )
            if int(last or first) < int(first):
                raise InputError(
                    f"label values: expected the smaller number first, found {part!r} in {text!r}; swap the numbers"
                )
            for value in range(int(first), int(last or first) + 1):
                if encoding.setdefault(value, MEANINGS[meaning]) != MEANINGS[meaning]:
                    raise InputError(f"label values: expected one meaning of {value}, found two; correct {text!r}")
    if ANOMALY not in encoding.values():
        raise InputError("label values: expected one that means an anomaly, such as 1=anomaly, found none; add it")
    return encoding


def from_folders(
    images: str | Path,
    labels: str | Path,
    label_values: Mapping[int | str, str] | Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> Dataset:
    """Make a dataset from a folder of images and a folder of label maps, paired by their paths without suffix.

    Args:
        images: Folder with images, at any depth.
        labels: Folder with label maps in PNG files, at any depth. Every image needs a label map and every label map an
            image.
        label_values: Meaning of the label values, ``known``, ``anomaly`` or ``ignore``, such as ``{0: "known",
            1: "anomaly", 255: "ignore"}``. A key may also be a list of values and ranges, ``"2,5-9"``. Meanings are
            never guessed: without them, the error lists the values in the label maps.
        name: Name in results; by default that of the folder that holds ``labels``.

    Raises:
        InputError: A folder is missing or empty, an image or a label map has no counterpart, the name or a meaning is
            not valid, or ``label_values`` is missing.
    """
    encoding = None
    if isinstance(label_values, Mapping):
        encoding = parse_encoding([f"{value}={meaning}" for value, meaning in label_values.items()])
    elif label_values is not None:
        encoding = parse_encoding([label_values] if isinstance(label_values, str) else label_values)
    return open_folders(_name(name, Path(labels)), Path(images), Path(labels), encoding)


def _name(name: str | None, labels: Path) -> str:
    if name is not None:
        if name in ("", ".", "..") or "/" in name or in_catalogue(name):
            raise InputError(
                f"folder name: expected a plain name that differs from all datasets, found {name!r}; choose another"
            )
        return name
    parent = labels.resolve().parent.name or "folder"
    return f"{parent}-folder" if in_catalogue(parent) else parent


def open_folders(name: str, images: Path, labels: Path, encoding: Encoding | None) -> Dataset:
    """Make a dataset from images and label maps below two folders, paired by their paths without suffix.

    Label maps among the images are left out with a warning.

    Args:
        name: Name of the dataset.
        images: Folder with images, at any depth.
        labels: Folder with label maps in PNG files, at any depth. Every image needs a label map and every label map an
            image.
        encoding: Meaning of the label values; a frame with another value is an error when it is read. It is never
            guessed: with ``None``, the error lists the values in the label maps.

    Raises:
        InputError: A folder is missing or empty, a link leads to nothing, an image has an unsupported format, two
            images have the same name, an image or a label map has no counterpart, or ``encoding`` is ``None``.
    """
    pairs = pair_folders(images, labels)
    if encoding is None:
        raise InputError(_undeclared(labels, (path for _, _, path in pairs)))
    files = tuple(FrameFiles(*pair) for pair in pairs)
    return Dataset(name, labels, f"images of {images.name} and label maps of {labels.name} by name", files, encoding)


def pair_folders(images: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Pair the images and the label maps below two folders by their paths without suffix.

    Label maps among the images are left out with a warning.

    Args:
        images: Folder with images, at any depth.
        labels: Folder with label maps in PNG files, at any depth. Every image needs a label map and every label map an
            image.

    Returns:
        Path without suffix, image and label map of each pair, in the order of paths.

    Raises:
        InputError: A folder is missing or empty, a link leads to nothing, an image has an unsupported format, two
            images have the same name, or an image or a label map has no counterpart.
    """
    image_files, label_files = _without_label_maps(images), files_below(labels)
    _refuse_unread(images, image_files, UNREAD_SUFFIXES, IMAGE_SUFFIXES, "images", "convert them, or remove them")
    pictures = _by_name(images, image_files, IMAGE_SUFFIXES)
    others = {path.resolve() for path in pictures.values()}  # images, if one folder holds both
    unread = [path for path in label_files if path.resolve() not in others]
    way = "name the folder of images first, and use label maps without loss of values, or remove these files"
    _refuse_unread(labels, unread, _NO_LABELS, _LABELS, "label maps", way)
    maps = _by_name(labels, label_files, _LABELS)
    if orphans := sorted(maps.keys() - pictures.keys()):
        raise InputError(
            f"{images}: expected an image for every label map of {labels}, found none for {orphans[0]!r} "
            f"({len(orphans)} of {len(maps)}); give both the same names"
        )
    if bare := sorted(pictures.keys() - maps.keys()):
        raise InputError(
            f"{labels}: expected a label map for every image of {images}, found none for {bare[0]!r} "
            f"({len(bare)} of {len(pictures)}); give both the same names, or remove images that should not be evaluated"
        )
    return [(name, pictures[name], path) for name, path in sorted(maps.items())]


def _undeclared(labels: Path, maps: Iterable[Path]) -> str:
    """List the values in label maps, and describe how to declare their meaning."""
    counts = Counter[int]()
    for path in maps:
        values, times = np.unique(read_label(path), return_counts=True)
        counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    if counts.keys() == {0, 255}:
        example = "0=known 255=anomaly"
    elif counts.keys() <= {0, 1, 255}:
        example = "0=known 1=anomaly 255=ignore"
    else:
        example = " ".join(f"{value}=known|anomaly|ignore" for value in sorted(counts)[:4])
    return (
        f"{labels}: expected a meaning for each label value, because it is never guessed, found none for the values "
        f"{shares_of(counts)}; declare their meaning, such as --label-values {example} (in Python, label_values=)"
    )


def find_images(folder: Path) -> list[tuple[str, Path]]:
    """List the images below a folder, at any depth.

    Images of unsupported formats and label maps among the images are left out with a warning.

    Returns:
        Path without suffix and file of each image, in the order of names.

    Raises:
        InputError: The folder is missing or empty, a link leads to nothing, or two images have the same name.
    """
    files = _without_label_maps(folder)
    if left := [path.name for path in files if _ends(path, UNREAD_SUFFIXES)]:
        warnings.warn(
            f"{folder}: {len(left)} images such as {left[0]} are left out, because only files that end in "
            f"{', '.join(IMAGE_SUFFIXES)} are read",
            stacklevel=2,
        )
    return sorted(_by_name(folder, files, IMAGE_SUFFIXES).items())


def _without_label_maps(folder: Path) -> list[Path]:
    """List the files below a folder of images that are not label maps; warn about label maps."""
    files = files_below(folder)
    maps = find_label_maps(folder, files)
    if left := [path.relative_to(folder) for path in files if path in maps and _ends(path, _PICTURES)]:
        warnings.warn(
            f"{folder}: {len(left)} files such as {left[0]} are left out: they are label maps, by their position in a "
            "layout of the catalogue (docs/datasets.md)",
            stacklevel=3,
        )
    return [path for path in files if path not in maps]


def _refuse_unread(
    folder: Path, files: Sequence[Path], unread: Sequence[str], read: Sequence[str], what: str, way: str
) -> None:
    """Raise an error for files that would be skipped, because metrics would cover only a part of the folder."""
    if skipped := [path for path in files if _ends(path, unread)]:
        raise InputError(
            f"{folder}: expected only {what} that end in {', '.join(read)}, found {skipped[0].relative_to(folder)} "
            f"({len(skipped)} such files); {way}"
        )


def _by_name(folder: Path, files: Sequence[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    """Index the files with some suffixes by their paths without suffix."""
    by_name: dict[str, Path] = {}
    for path in files:
        if not _ends(path, suffixes):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in by_name:
            raise InputError(
                f"{folder}: expected one file {name!r}, found {by_name[name].name} and {path.name}; remove one"
            )
        by_name[name] = path
    if not by_name:
        raise InputError(f"{folder}: expected files that end in {', '.join(suffixes)}, found none; check the path")
    return by_name


def _ends(path: Path, suffixes: Sequence[str]) -> bool:
    return path.suffix.lower() in suffixes
