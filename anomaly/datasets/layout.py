"""Folder layouts as patterns: which files are a set's label maps, and which image belongs to each."""

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

PHOTO = ".*"  # at the end of a pattern: any suffix an image may have
UNREAD = ".?"  # any suffix of pictures that are not read
_FIELD = re.compile(r"\{(\w+)\}")
Encoding = Mapping[int, int]


@dataclass(frozen=True)
class Layout:
    """One way in which a set lies on disk.

    A pattern is a path below the set's folder. ``{id}``, ``{scene}`` and other names in braces stand for any part of a
    file or folder name; every layout has ``{id}``. ``.*`` at the end stands for any image's suffix, ``*`` for any
    name, and a pattern for images may begin with ``../``. Suffixes may be in capitals.

    Args:
        name: Whose layout it is: ``published``, or a project that uses it.
        labels: Pattern of the label maps.
        images: Patterns of the images; the first that has a frame's counts.
        overlays: Pattern of signed differences that are added to the images.
        frame: How a frame is called; has to be unique in the set.
        encodings: What its label values mean, by the name of the encoding, where it differs from the set's own.
        listing: Reads a list of the set's images below the set's folder, in order, where there is one; it
            decides which frames belong to the set.
        part: Whether a part of the set may lie so.
        versionless: Whether it leaves open which version of the set it holds.
        numbered: Whether its frames have numbers in place of their names.
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
        """The layout in words, as error messages and documents have it."""
        patterns = (self.images[0], self.overlays, self.labels)
        return " + ".join(re.sub(r"[{}]", "", part.replace("{id}", "NAME")) for part in patterns if part is not None)

    def find(self, root: Path) -> tuple[FrameFiles, ...]:
        """List the frames below ``root``, in the order of their names or of the set's list.

        Returns:
            The frames; none where ``root`` holds no label maps with images in this layout.

        Raises:
            InputError: Two images or label maps belong to one frame, a label map has no image while others
                have, or the list names what is not there.
        """
        labels: dict[str, tuple[Path, dict[str, str]]] = {}
        doubles: dict[str, Path] = {}
        for path, fields in matches(root, self.labels):
            if labels.setdefault(self.frame.format(**fields), (path, fields))[0] != path:
                doubles[self.frame.format(**fields)] = path
        listed = self.listing(root) if self.listing is not None and labels else None
        photos = self._photos(root, labels, listed)
        if not photos:
            return ()
        if listed is None and (orphans := sorted(labels.keys() - photos.keys())):
            path, fields = labels[orphans[0]]
            raise InputError(
                f"{root}: no image for the label map {path.name} ({len(orphans)} of {len(labels)} have none); "
                f"expected {self.images[0].format(**fields)}; complete the set"
            )
        frames = sorted(photos) if listed is None else list(photos)
        files = []
        for frame in frames:
            path, fields = labels[frame]
            if frame in doubles:
                raise InputError(
                    f"{root}: expected one label map for frame {frame!r}, found {path.relative_to(root)} and "
                    f"{doubles[frame].relative_to(root)}; remove one of them"
                )
            overlay = None if self.overlays is None else root / self.overlays.format(**fields)
            files.append(FrameFiles(frame, photos[frame], path, overlay))
        return tuple(files)

    def find_images(self, root: Path) -> tuple[Path, ...]:
        """List what looks like this layout's images below ``root``, whether they have a label map or not."""
        return tuple(path for pattern in self.images for path, _ in matches(root, pattern))

    def frames_without_labels(self, root: Path) -> dict[str, Path]:
        """Name and file of every image below ``root``; none where its pattern does not give its frame's name.

        Raises:
            InputError: Two images belong to one frame.
        """
        photos: dict[str, Path] = {}
        for frame, path in self._named(root, self.images[0]):
            if photos.setdefault(frame, path) != path:
                raise InputError(
                    f"{root}: expected one image for frame {frame!r}, found {photos[frame].name} and {path.name}; "
                    "remove one of them"
                )
        return photos

    def unread(self, root: Path) -> dict[str, Path]:
        """Name and file of every picture where images lie whose format is not read, if its pattern names its frame."""
        return dict(self._named(root, os.path.splitext(self.images[0])[0] + UNREAD))

    def _named(self, root: Path, pattern: str) -> Iterator[tuple[str, Path]]:
        """The files that fit a pattern of images, with the names of their frames where it gives them."""
        if not set(_FIELD.findall(self.frame)) - set(_FIELD.findall(pattern)):
            for path, fields in matches(root, pattern):
                yield self.frame.format(**fields), path

    def label_maps(self, root: Path) -> tuple[Path, ...]:
        """List what looks like this layout's label maps below ``root``, whether they have an image or not."""
        return tuple(path for path, _ in matches(root, self.labels))

    def pairs(self, files: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
        """Give each file that fits this layout's label maps, below whatever folder, with a file that is its image.

        Args:
            files: All there are: paths of files below one folder.
        """
        labels = list(_fitting_below(files, self.labels))
        for pattern in self.images if labels else ():
            names, upwards = _FIELD.findall(pattern), pattern.count("../")
            photos = {
                (folder, *(fields[name] for name in names)): file
                for file, folder, fields in _fitting_below(files, pattern.replace("../", ""))
            }
            for label, folder, fields in labels:
                above = folder[: len(folder) - upwards]
                photo = photos.get((above, *(fields[name] for name in names)))
                if photo is not None and len(folder) >= upwards:
                    yield label, photo

    def _photos(
        self, root: Path, labels: Mapping[str, tuple[Path, dict[str, str]]], listed: Sequence[str] | None
    ) -> dict[str, Path]:
        """The image of each frame that has one; in the list's order where there is a list."""
        places = {name: place for place, name in enumerate(listed or ())}
        photos: dict[str, Path] = {}
        for pattern in self.images:
            names = _FIELD.findall(pattern)
            index: dict[tuple[str, ...], list[Path]] = {}
            for path, fields in matches(root, pattern):
                if listed is None or path.name in places:
                    index.setdefault(tuple(fields[name] for name in names), []).append(path)
            for frame, (_, fields) in labels.items():
                found = sorted(index.get(tuple(fields[name] for name in names), []))
                if len(found) > 1:
                    raise InputError(
                        f"{root}: expected one image for frame {frame!r}, found {found[0].name} and "
                        f"{found[1].name}; remove one of them"
                    )
                if found:
                    photos.setdefault(frame, found[0])
        if listed is None:
            return photos
        if absent := sorted(places.keys() - {path.name for path in photos.values()}):
            raise InputError(
                f"{root}: expected the image {absent[0]} of the set's list and its label map, found not both "
                f"({len(absent)} of {len(places)} frames are incomplete); complete the set, or correct the list"
            )
        return dict(sorted(photos.items(), key=lambda item: places[item[1].name]))


def matches(root: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give every file below ``root`` that fits a pattern, with what its fields stand for; hidden files do not count.

    Raises:
        InputError: What fits is a link to nothing, or a folder that cannot be listed.
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
    """The folders or files in ``folder`` that fit one part of a pattern; a field that came before means the same."""
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
    """The files whose paths end as a pattern says, with the folders before that, and what its fields stand for."""
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
    endings = {PHOTO: IMAGE_SUFFIXES, UNREAD: UNREAD_SUFFIXES}.get(suffix, (suffix,))
    texts.append(f"(?i:{'|'.join(map(re.escape, endings))})")
    return re.compile("".join(texts))
