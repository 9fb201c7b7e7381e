"""Folder layouts as patterns, which pair the label maps of a dataset with its images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anomaly.datasets.dataset import FrameFiles
from anomaly.datasets.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from anomaly.datasets.walk import is_folder, listed
from anomaly.errors import InputError

IMAGE = ".*"  # at the end of a pattern: any suffix of supported images
UNREAD = ".?"  # at the end of a pattern: any suffix of unsupported images
_FIELD = re.compile(r"\{(\w+)\}")
Encoding = Mapping[int, int]


@dataclass(frozen=True)
class Layout:
    """A folder layout of a dataset.

    A pattern is a path below the folder of the dataset. ``{id}``, ``{scene}`` and other names in braces match any part
    of a file or folder name; every layout has ``{id}``. ``.*`` at the end matches any image suffix, and ``*`` matches
    any name. A pattern for images may start with ``../``. Suffixes match in any case.

    Args:
        name: ``published``, or the project that uses the layout.
        labels: Pattern of the label maps.
        images: Patterns of the images; the first one that has an image for a frame is used.
        overlays: Pattern of signed differences that are added to the images; ``None`` if there are none.
        frame: Pattern of the frame's name, which must be unique in the dataset.
        encodings: Meanings of its label values, by the name of the encoding, if they differ from those of the dataset.
        listing: Reads the list of images in the folder of the dataset, in order, and returns ``None`` if there is no
            list. The list decides which frames belong to the dataset.
        part: Whether the layout may hold a part of the dataset.
        versionless: Whether the layout does not show which version of the dataset it holds.
        numbered: Whether its frames have numbers instead of their names.
    """

    name: str
    labels: str
    images: tuple[str, ...]
    overlays: str | None = None
    frame: str = "{id}"
    encodings: Mapping[str, Encoding] | None = None
    listing: Callable[[Path], Sequence[str] | None] | None = None
    part: bool = False
    versionless: bool = False
    numbered: bool = False

    def __str__(self) -> str:
        """Describe the layout in words, for error messages and documents."""
        patterns = (self.images[0], self.overlays, self.labels)
        return " + ".join(re.sub(r"[{}]", "", part.replace("{id}", "NAME")) for part in patterns if part is not None)

    def find(self, root: Path) -> tuple[FrameFiles, ...]:
        """List the frames below ``root``, in the order of their names or of the dataset's list.

        Args:
            root: Folder of the dataset.

        Returns:
            Files of each frame; empty if ``root`` holds no label maps with images in this layout.

        Raises:
            InputError: Two images or label maps belong to one frame, only some label maps have an image, or a listed
                frame is missing.
        """
        labels: dict[str, tuple[Path, dict[str, str]]] = {}
        doubles: dict[str, Path] = {}
        for path, fields in matches(root, self.labels):
            if labels.setdefault(self.frame.format(**fields), (path, fields))[0] != path:
                doubles[self.frame.format(**fields)] = path
        listed = self.listing(root) if self.listing is not None and labels else None
        images = self._images(root, labels, listed)
        if not images:
            return ()
        if listed is None and (orphans := sorted(labels.keys() - images.keys())):
            path, fields = labels[orphans[0]]
            raise InputError(
                f"{root}: expected the image {self.images[0].format(**fields)} for the label map {path.name}, found "
                f"none ({len(orphans)} of {len(labels)} label maps have no image); complete the dataset"
            )
        frames = sorted(images) if listed is None else list(images)
        files = []
        for frame in frames:
            path, fields = labels[frame]
            if frame in doubles:
                raise InputError(
                    f"{root}: expected one label map for frame {frame!r}, found {path.relative_to(root)} and "
                    f"{doubles[frame].relative_to(root)}; remove one of them"
                )
            overlay = None if self.overlays is None else root / self.overlays.format(**fields)
            files.append(FrameFiles(frame, images[frame], path, overlay))
        return tuple(files)

    def find_images(self, root: Path) -> tuple[Path, ...]:
        """List the files below ``root`` that match an image pattern, with or without a label map."""
        return tuple(path for pattern in self.images for path, _ in matches(root, pattern))

    def frames_without_labels(self, root: Path) -> dict[str, Path]:
        """List the images below ``root`` by the names of their frames, with or without a label map.

        Returns:
            Files by frame; empty if the first image pattern does not determine the frame's name.

        Raises:
            InputError: Two images belong to one frame.
        """
        images: dict[str, Path] = {}
        for frame, path in self._named(root, self.images[0]):
            if images.setdefault(frame, path) != path:
                raise InputError(
                    f"{root}: expected one image for frame {frame!r}, found {images[frame].name} and {path.name}; "
                    "remove one of them"
                )
        return images

    def unread(self, root: Path) -> dict[str, Path]:
        """List the images of unsupported formats below ``root`` by the names of their frames."""
        return dict(self._named(root, os.path.splitext(self.images[0])[0] + UNREAD))

    def _named(self, root: Path, pattern: str) -> Iterator[tuple[str, Path]]:
        """Yield the files that match an image pattern with the names of their frames, if it determines them."""
        if not set(_FIELD.findall(self.frame)) - set(_FIELD.findall(pattern)):
            for path, fields in matches(root, pattern):
                yield self.frame.format(**fields), path

    def label_maps(self, root: Path) -> tuple[Path, ...]:
        """List the files below ``root`` that match the label pattern, with or without an image."""
        return tuple(path for path, _ in matches(root, self.labels))

    def pairs(self, files: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
        """Yield each file that matches the label pattern, in any subfolder, with the file that is its image.

        Args:
            files: Paths of all files, relative to one folder.
        """
        labels = list(_fitting_below(files, self.labels))
        for pattern in self.images if labels else ():
            names, upwards = _FIELD.findall(pattern), pattern.count("../")
            images = {
                (folder, *(fields[name] for name in names)): file
                for file, folder, fields in _fitting_below(files, pattern.replace("../", ""))
            }
            for label, folder, fields in labels:
                above = folder[: len(folder) - upwards]
                image = images.get((above, *(fields[name] for name in names)))
                if image is not None and len(folder) >= upwards:
                    yield label, image

    def _images(
        self, root: Path, labels: Mapping[str, tuple[Path, dict[str, str]]], listed: Sequence[str] | None
    ) -> dict[str, Path]:
        """Find the image of each frame that has one, in the order of the list if there is one."""
        places = {name: place for place, name in enumerate(listed or ())}
        images: dict[str, Path] = {}
        for pattern in self.images:
            names = _FIELD.findall(pattern)
            index: dict[tuple[str, ...], list[Path]] = {}
            for path, fields in matches(root, pattern):
                if listed is None or path.name in places:
                    index.setdefault(tuple(fields[name] for name in names), []).append(path)
            for frame, (_, fields) in labels.items():
                candidates = sorted(index.get(tuple(fields[name] for name in names), []))
                if len(candidates) > 1:
                    raise InputError(
                        f"{root}: expected one image for frame {frame!r}, found {candidates[0].name} and "
                        f"{candidates[1].name}; remove one of them"
                    )
                if candidates:
                    images.setdefault(frame, candidates[0])
        if listed is None:
            return images
        if absent := sorted(places.keys() - {path.name for path in images.values()}):
            raise InputError(
                f"{root}: expected the image {absent[0]} of the dataset's list and its label map, found not both "
                f"({len(absent)} of {len(places)} frames are incomplete); complete the dataset, or correct the list"
            )
        return dict(sorted(images.items(), key=lambda item: places[item[1].name]))


def matches(root: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield every file below ``root`` that matches a pattern, with the values of its fields; hidden files are skipped.

    Raises:
        InputError: A match is a link to nothing, or a folder cannot be listed.
    """
    *parents, last = pattern.split("/")
    folders: list[tuple[Path, dict[str, str]]] = [(root, {})]
    for part in parents:
        folders = [deeper for folder, fields in folders for deeper in _fitting(folder, part, fields, folders=True)]
    for folder, fields in folders:
        yield from _fitting(folder, last, fields, folders=False)


def _fitting(
    folder: Path, part: str, fields: dict[str, str], *, folders: bool
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the folders or files in ``folder`` that match one part of a pattern; known fields keep their values."""
    if part == "..":
        yield folder / part, fields
    elif folder.is_dir():
        expression = _expression(part, fields)
        for path in listed(folder):
            match = expression.fullmatch(path.name)
            if match is not None and is_folder(path) == folders:
                yield path, {**fields, **match.groupdict()}


def _fitting_below(
    files: Iterable[PurePosixPath], pattern: str
) -> Iterator[tuple[PurePosixPath, tuple[str, ...], dict[str, str]]]:
    """Yield the files whose paths end with a pattern, with the folders before it and the values of its fields."""
    parts = pattern.split("/")
    expression = re.compile("/".join(_expression(part, {}).pattern for part in parts))
    for file in files:
        match = expression.fullmatch("/".join(file.parts[-len(parts) :]))
        if match is not None:
            yield file, file.parts[: -len(parts)], match.groupdict()


def _expression(part: str, fields: Mapping[str, str]) -> re.Pattern[str]:
    name, suffix = os.path.splitext(part)
    texts = []
    for index, text in enumerate(_FIELD.split(name)):
        if index % 2 == 0:
            texts.append(re.escape(text).replace(r"\*", ".+"))
        elif text in fields:
            texts.append(re.escape(fields[text]))
        else:
            texts.append(f"(?P<{text}>[^/]+?)")
    endings = {IMAGE: IMAGE_SUFFIXES, UNREAD: UNREAD_SUFFIXES}.get(suffix, (suffix,))
    texts.append(f"(?i:{'|'.join(map(re.escape, endings))})")
    return re.compile("".join(texts))
