"""Entries of the catalogue: source, layout on disk, meaning of labels, and licence of a dataset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anomaly.datasets.dataset import AS_FOUND, Dataset, FrameFiles
from anomaly.datasets.download import Download
from anomaly.datasets.images import IMAGE_SUFFIXES, image_size, read_label
from anomaly.datasets.layout import Encoding, Layout
from anomaly.errors import InputError
from anomaly.frames import ANOMALY

RECORD = "record.json"
"""File in the folder of generated data; ``"synthetic": true`` says so, and ``"purpose"`` what they are for."""


@dataclass(frozen=True)
class CatalogEntry:
    """A dataset of the catalogue, or a part of one that results are published on.

    Args:
        name: Name in commands, tables and results.
        title: Name in prose.
        layouts: Layouts on disk, the published one first.
        encoding: Meaning of the label values.
        folders: Folders to search below the data folder; ``"."`` is the data folder itself.
        home: Address of its web page.
        citation: Authors, title, venue and year.
        licence: Terms of use, as far as they are known.
        frames: Number of published frames; ``None`` if it could not be confirmed.
        sizes: Width and height of its images; empty if they vary or could not be confirmed.
        classes: Names of the known classes, if the label values of known pixels are class indices from 0.
        every_frame: Whether every frame has an anomaly.
        anomalies: Whether it has anomalies at all; closed-set data have none.
        hidden: Whether its labels are not public.
        version: Version of the dataset, if there are several.
        other_versions: Parts of folder names that identify other versions.
        only: Prefixes of the frame names that belong to it; empty for all.
        excluded: Prefixes of frame names that do not belong to it, with the reason.
        excluded_places: Indices of further excluded frames among all ``total`` frames, sorted by name, by the reason.
        total: Number of frames including those excluded by their index.
        roi: Possible names of the file with the mask of evaluated pixels, below the dataset's folder.
        downloads: Files that can be downloaded without an account.
        pitfalls: Known sources of errors.
        obtain: How to get it, if not from its web page.
        synthetic: Whether its folder holds a record of synthetic data (``RECORD``), which other entries refuse.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    encoding: Encoding
    folders: tuple[str, ...]
    home: str
    citation: str
    licence: str
    frames: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    classes: tuple[str, ...] = ()
    every_frame: bool = False
    anomalies: bool = True
    hidden: bool = False
    version: str = ""
    other_versions: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    excluded_places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    total: int | None = None
    roi: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    pitfalls: tuple[str, ...] = ()
    obtain: str = ""
    synthetic: bool = False

    def open(self, data_root: Path, *, as_found: bool = False) -> Dataset:
        """Find the dataset below a folder and open it; its frames are read on demand.

        Args:
            data_root: Folder that holds the datasets, or the folder of this dataset.
            as_found: Accept another number of frames or an unknown version.

        Raises:
            InputError: The dataset is not found, is found twice, is incomplete, has another version, is synthetic where
                another is expected, or its labels are not public, have no anomaly, or have another meaning.
        """
        for root in (data_root / folder for folder in self.folders):
            found = [(layout, files) for layout in self.layouts if (files := layout.find(root))]
            if found and self.hidden:
                break
            if len(found) > 1:
                raise InputError(
                    f"{self.name}: expected one layout in {root}, found {' and '.join(str(one) for one, _ in found)}; "
                    "move them to separate folders and give one of these"
                )
            for layout, files in found:
                return self._dataset(root, layout, files, as_found)
        raise InputError(self._not_found(data_root))

    def find_images(self, data_root: Path) -> list[tuple[str, Path]]:
        """Find the images of the dataset, with or without labels.

        Args:
            data_root: Folder that holds the datasets, or the folder of this dataset.

        Returns:
            Name and file of each frame, in the order of names.

        Raises:
            InputError: No folder holds the images, an image has an unsupported format, two images belong to one frame,
                or the number of images differs from the published one.
        """
        for root in (data_root / folder for folder in self.folders):
            for layout in self.layouts:
                images = self._select(layout, layout.frames_without_labels(root))
                if not images:
                    continue
                if unread := self._select(layout, layout.unread(root)):
                    raise InputError(
                        f"{self.name}: expected images that end in {', '.join(IMAGE_SUFFIXES)} in {root} (as "
                        f"{layout}), found {min(unread.values()).name} ({len(unread)} of {len(unread) + len(images)}); "
                        "convert these images, or remove them"
                    )
                if self.frames is not None and len(images) != self.frames:
                    raise InputError(
                        f"{self.name}: expected {self.frames} images, found {len(images)} in {root} (as {layout}); "
                        "complete the dataset, or remove images that do not belong to it"
                    )
                return sorted(images.items())
        raise InputError(self._not_found(data_root))

    def _select(self, layout: Layout, frames: Mapping[str, Path]) -> dict[str, Path]:
        """Select the frames that belong to the dataset."""
        return {name: path for name, path in frames.items() if layout.numbered or self._belongs(name)}

    def _belongs(self, frame: str) -> bool:
        """Return whether a frame of this name belongs to the dataset."""
        return (not self.only or frame.startswith(self.only)) and not frame.startswith(tuple(self.excluded))

    def _dataset(self, root: Path, layout: Layout, files: tuple[FrameFiles, ...], as_found: bool) -> Dataset:
        synthetic = self._check_synthetic(root)
        unsure = self._check_version(root, layout, as_found)
        files = self._belonging(root, layout, files)
        notes = (*synthetic, *self._count(root, layout, files, as_found), *self._resized(files), *unsure)
        encoding_name, encoding = self._encoding(root, layout, files)
        words = str(layout) if encoding_name in ("", "published") else f"{layout}; labels {encoding_name}"
        return Dataset(
            self.name,
            root,
            words,
            files,
            encoding,
            classes=self.classes if encoding == self.encoding else (),
            roi=self._roi(root),
            published=self.frames,
            every_frame=self.every_frame,
            notes=notes,
            version=self.version,
        )

    def _check_synthetic(self, root: Path) -> tuple[str, ...]:
        """Raise an error for synthetic data where they are not expected, or missing; return a note where they are."""
        purpose = _purpose(root)
        if self.synthetic and purpose is None:
            raise InputError(
                f"{self.name}: expected {RECORD} in {root} to say that the images are synthetic, found that it does "
                "not; restore it, or give another folder"
            )
        if not self.synthetic and purpose is not None:
            raise InputError(
                f"{self.name}: expected the published dataset, found synthetic images in {root} ({purpose}); read them "
                "as the dataset pasted_objects"
            )
        return (f"synthetic, {purpose}",) if self.synthetic else ()

    def _check_version(self, root: Path, layout: Layout, as_found: bool) -> tuple[str, ...]:
        """Raise an error for another version, or return a note that the version is unknown."""
        if others := [part for part in root.parts if any(other in part for other in self.other_versions)]:
            raise InputError(
                f"{self.name}: expected version {self.version}, found {root}, which is named {others[-1]}; give the "
                "folder of this version"
            )
        if not (self.version and layout.versionless):
            return ()
        if not as_found:
            raise InputError(
                f"{self.name}: expected version {self.version}, found {root} in a layout that names no version "
                f"({layout}); get the published dataset, or confirm that it is this version ({AS_FOUND})"
            )
        return (f"nothing in the folder confirms that it is version {self.version}",)

    def _belonging(self, root: Path, layout: Layout, files: tuple[FrameFiles, ...]) -> tuple[FrameFiles, ...]:
        """Remove excluded frames."""
        if layout.numbered:  # only the number of frames can be checked
            return files
        places = {place for each in self.excluded_places.values() for place in each}
        if places and len(files) != self.total:
            raise InputError(
                f"{self.name}: expected {self.total} frames in {root}, of which {len(places)} are excluded by their "
                f"index, found {len(files)}; complete the dataset"
            )
        return tuple(file for place, file in enumerate(files) if place not in places and self._belongs(file.id))

    def _count(self, root: Path, layout: Layout, files: Sequence[FrameFiles], as_found: bool) -> tuple[str, ...]:
        """Raise an error for another number of frames than published or for images without labels, or return notes.

        If no number is published, every image belongs to the dataset.
        """
        found = len(files)
        if found == self.frames:
            return ()
        listed = layout.listing is not None and layout.listing(root) is not None
        part = as_found or layout.part or listed
        if self.frames is not None and (not found or (not as_found and found > self.frames) or not part):
            raise InputError(
                f"{self.name}: expected {self.frames} frames, found {found} in {root} (as {layout}); complete the "
                f"dataset, remove frames that do not belong to it, or accept these frames ({AS_FOUND})"
            )
        notes = () if self.frames is None else (f"{found} frames where {self.frames} are published",)
        return (*notes, *(self._unlisted(root, layout, files) if listed else self._bare(root, layout, files, as_found)))

    def _unlisted(self, root: Path, layout: Layout, files: Sequence[FrameFiles]) -> tuple[str, ...]:
        """Return a note about label maps that the dataset's list does not include."""
        taken = {file.label for file in files}
        left = sorted(str(path.relative_to(root)) for path in layout.label_maps(root) if path not in taken)
        if not left:
            return ()
        return (f"{len(left)} label maps, such as {left[0]}, are not in the dataset's list and are left out",)

    def _bare(self, root: Path, layout: Layout, files: Sequence[FrameFiles], as_found: bool) -> tuple[str, ...]:
        """Raise an error for images without label maps, or return a note about them."""
        images = {**layout.unread(root), **layout.frames_without_labels(root)}
        bare = {name for name in images if self._belongs(name)} - {file.id for file in files}
        if not bare:
            return ()
        if not as_found:
            raise InputError(
                f"{self.name}: expected a label map for every image in {root} (as {layout}), found none for "
                f"{min(bare)!r} ({len(bare)} of {len(bare) + len(files)}); complete the dataset, remove these images, "
                f"or accept the other frames ({AS_FOUND})"
            )
        return (f"{len(bare)} images have no label map, such as {min(bare)!r}, and are left out",)

    def _resized(self, files: Sequence[FrameFiles]) -> tuple[str, ...]:
        """Return notes about images whose size differs from the published one."""
        if not self.sizes:
            return ()
        found = (image_size(file.image) for file in files)
        counts = Counter(size for size in found if size is not None and size not in self.sizes)
        published = " or ".join(f"{width}x{height}" for width, height in self.sizes)
        return tuple(
            f"{count} images of {width}x{height} pixels where {published} is published"
            for (width, height), count in sorted(counts.items())
        )

    def _encoding(self, root: Path, layout: Layout, files: Sequence[FrameFiles]) -> tuple[str, Encoding]:
        """Identify the encoding of the dataset, among those of its layout, by its label values."""
        candidates = dict(layout.encodings or {"": self.encoding})
        seen: set[int] = set()
        anomalous = not self.anomalies
        enough = 1 if len(candidates) == 1 else 3  # a single odd label map should not decide
        for place, file in enumerate(files):
            if len(candidates) == 1 and anomalous and place >= enough:
                break
            try:
                seen |= set(np.unique(read_label(file.label)).tolist())
            except InputError:  # reported when the frame is read
                continue
            fitting = {name: one for name, one in candidates.items() if seen <= one.keys()}
            if not fitting:  # reading the frames reports the files with undefined values
                return self._likeliest(layout, files)
            candidates = fitting
            anomalous = not self.anomalies or all(
                any(one[value] == ANOMALY for value in seen) for one in candidates.values()
            )
        if len({tuple(one[value] for value in sorted(seen)) for one in candidates.values()}) > 1:
            raise InputError(
                f"{self.name}: the label values {sorted(seen)} in {root} can mean different things "
                f"({'; '.join(candidates)}); get the published dataset"
            )
        if self.anomalies and not anomalous:
            raise InputError(
                f"{self.name}: expected anomalies, found none in {len(files)} label maps of {root}, whose values are "
                f"{sorted(seen)}; use the published labels, not those of a hidden split or of another version"
            )
        return next(iter(candidates.items()))

    def _likeliest(self, layout: Layout, files: Sequence[FrameFiles]) -> tuple[str, Encoding]:
        """Return the encoding that fits most label maps, so that errors are reported for the others."""
        fits: Counter[str] = Counter()
        encodings = dict(layout.encodings or {"": self.encoding})
        for file in files:
            try:
                values = set(np.unique(read_label(file.label)).tolist())
            except InputError:  # reported when the frame is read
                continue
            fits.update(name for name, one in encodings.items() if values <= one.keys())
        name = max(encodings, key=lambda name: fits[name])
        return name, encodings[name]

    def _roi(self, root: Path) -> Path | None:
        if not self.roi:
            return None
        for name in self.roi:
            if (root / name).is_file():
                return root / name
        raise InputError(f"{self.name}: expected the mask {self.roi[0]} in {root}, found none; copy it there")

    def _not_found(self, data_root: Path) -> str:
        """Describe what was expected and what was found instead."""
        roots = [data_root / folder for folder in self.folders]
        expected = " or ".join(str(layout) for layout in self.layouts)
        for root in roots:
            for layout in self.layouts:
                images, labels = layout.find_images(root), layout.label_maps(root)
                if images and self.hidden:
                    return (
                        f"{self.name}: the labels of this dataset are not public (copies sometimes hold maps of zeros "
                        "instead); write score maps with anomaly save-scores, and have them evaluated at "
                        f"{self.home}"
                    )
                if labels:
                    return (
                        f"{self.name}: expected {layout}, found {len(labels)} label maps in {root} without images; "
                        f"complete the dataset ({self.home})"
                    )
        searched = ", ".join(f"{root} ({holds(root)})" for root in roots)
        return (
            f"{self.name}: expected {expected}, found it in none of {searched}; "
            f"{self.obtain or 'get it from ' + self.home} and put it in {roots[0]}"
        )


def _purpose(folder: Path) -> str | None:
    """What synthetic data in a folder are for, as their record says; ``None`` if it holds no such record."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(record.get("purpose", "")) if isinstance(record, dict) and record.get("synthetic") is True else None


def holds(folder: Path) -> str:
    """Describe the content of a folder in a few words."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return "empty"
    return "holds " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
