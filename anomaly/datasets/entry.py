"""What the catalogue knows of a set: where it comes from, how it lies on disk, what its labels mean, who may use it."""

from __future__ import annotations

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


@dataclass(frozen=True)
class CatalogEntry:
    """One set of the catalogue, or a part of one that people publish figures on.

    Args:
        name: Its name in commands, tables and results.
        title: Its name in prose.
        layouts: How it lies on disk, the published layout first.
        encoding: What its label values mean.
        folders: Where to look below the data folder; ``"."`` is the data folder itself.
        home: Address of its page.
        citation: Authors, title, where and when.
        licence: Its terms, as far as they are known.
        frames: Number of frames as published; ``None`` where that could not be confirmed.
        sizes: Width and height of its images; empty where they vary or could not be confirmed.
        classes: Names of the known classes, where the label values of known pixels are class ids from 0.
        every_frame: Whether every frame has an anomaly.
        anomalies: Whether it has anomalies at all; closed-set data has none.
        hidden: Whether its labels are not public.
        version: Which version of the set, where there are several.
        other_versions: Parts of folder names that tell another version.
        only: Beginnings of the frame names that belong to it; empty: all.
        excluded: Beginnings of frame names that do not belong to it, and why.
        excluded_places: Places of further such frames among all ``total``, in the order of names, and why.
        total: Number of frames with those that are left out by their place.
        roi: Names of a file with the mask of what counts, below the set's folder.
        downloads: What can be fetched without an account.
        pitfalls: What people stumble over.
        obtain: How to get it, where not from its page.
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

    def open(self, data_root: Path, *, as_found: bool = False) -> Dataset:
        """Find the set below a folder and open it; its frames are read only when asked for.

        Args:
            data_root: Folder that holds the sets, or the folder of this set itself.
            as_found: Take it as it is, although it has another number of frames or an unknown version.

        Raises:
            InputError: No folder holds it, one holds it twice, it is incomplete, its labels are hidden, without an
                anomaly or of another meaning, or it is another version.
        """
        for root in (data_root / folder for folder in self.folders):
            found = [(layout, files) for layout in self.layouts if (files := layout.find(root))]
            if found and self.hidden:
                break
            if len(found) > 1:
                raise InputError(
                    f"{self.name}: expected one layout in {root}, found {' and '.join(str(one) for one, _ in found)}; "
                    "put them into folders of their own and name one of these"
                )
            for layout, files in found:
                return self._split(root, layout, files, as_found)
        raise InputError(self._not_found(data_root))

    def find_images(self, data_root: Path) -> list[tuple[str, Path]]:
        """Find the set's images, whether there are labels or not: name and file of each frame, in order of names.

        Raises:
            InputError: No folder holds them, one of them is in a format that is not read, two are of one frame, or they
                are not as many as were published.
        """
        for root in (data_root / folder for folder in self.folders):
            for layout in self.layouts:
                found = self._belonging_here(layout, layout.frames_without_labels(root))
                if not found:
                    continue
                if unread := self._belonging_here(layout, layout.unread(root)):
                    raise InputError(
                        f"{self.name}: expected images that end in {', '.join(IMAGE_SUFFIXES)} in {root} (as "
                        f"{layout}), found {min(unread.values()).name} ({len(unread)} of {len(unread) + len(found)}); "
                        "convert them, or take them out"
                    )
                if self.frames is not None and len(found) != self.frames:
                    raise InputError(
                        f"{self.name}: expected {self.frames} images, found {len(found)} in {root} (as {layout}); "
                        "complete the set, or take out what is not of it"
                    )
                return sorted(found.items())
        raise InputError(self._not_found(data_root))

    def _belonging_here(self, layout: Layout, frames: Mapping[str, Path]) -> dict[str, Path]:
        """Those of a layout's frames that are the set's."""
        return {name: path for name, path in frames.items() if layout.numbered or self._belongs(name)}

    def _belongs(self, frame: str) -> bool:
        """Whether a frame's name is one of the set's."""
        return (not self.only or frame.startswith(self.only)) and not frame.startswith(tuple(self.excluded))

    def _split(self, root: Path, layout: Layout, files: tuple[FrameFiles, ...], as_found: bool) -> Dataset:
        unsure = self._check_version(root, layout, as_found)
        files = self._belonging(root, layout, files)
        notes = (*self._count(root, layout, files, as_found), *self._resized(files), *unsure)
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

    def _check_version(self, root: Path, layout: Layout, as_found: bool) -> tuple[str, ...]:
        """Refuse another version than this set's, or note that there is no telling."""
        if others := [part for part in root.parts if any(other in part for other in self.other_versions)]:
            raise InputError(
                f"{self.name}: expected version {self.version}, found {root}, which is named {others[-1]}; "
                "name the folder of this version"
            )
        if not (self.version and layout.versionless):
            return ()
        if not as_found:
            raise InputError(
                f"{self.name}: expected version {self.version}, found {root} in a layout that tells no version "
                f"({layout}); get the set as published, or say that it is this version ({AS_FOUND})"
            )
        return (f"nothing in the folder tells that it is version {self.version}",)

    def _belonging(self, root: Path, layout: Layout, files: tuple[FrameFiles, ...]) -> tuple[FrameFiles, ...]:
        """Leave out what is excluded."""
        if layout.numbered:  # the count tells whether these are the frames
            return files
        places = {place for each in self.excluded_places.values() for place in each}
        if places and len(files) != self.total:
            raise InputError(
                f"{self.name}: expected {self.total} frames in {root}, of which {len(places)} are left out by their "
                f"place, found {len(files)}; complete the set"
            )
        return tuple(file for place, file in enumerate(files) if place not in places and self._belongs(file.id))

    def _count(self, root: Path, layout: Layout, files: Sequence[FrameFiles], as_found: bool) -> tuple[str, ...]:
        """Refuse another number of frames than published, or images without labels among a part; or note it.

        Where nobody published a number, every image counts as one of the set.
        """
        found = len(files)
        if found == self.frames:
            return ()
        listed = layout.listing is not None and layout.listing(root) is not None
        part = as_found or layout.part or listed
        if self.frames is not None and (not found or (not as_found and found > self.frames) or not part):
            raise InputError(
                f"{self.name}: expected {self.frames} frames, found {found} in {root} (as {layout}); complete the set, "
                f"take out what is not of it, or say that this part is meant ({AS_FOUND})"
            )
        notes = () if self.frames is None else (f"{found} frames where {self.frames} are published",)
        return (*notes, *(self._unlisted(root, layout, files) if listed else self._bare(root, layout, files, as_found)))

    def _unlisted(self, root: Path, layout: Layout, files: Sequence[FrameFiles]) -> tuple[str, ...]:
        """Note frames that the set's list leaves out, although they are there."""
        taken = {file.label for file in files}
        left = sorted(str(path.relative_to(root)) for path in layout.label_maps(root) if path not in taken)
        if not left:
            return ()
        return (f"{len(left)} label maps, such as {left[0]}, are of no frame in the set's list and are left out",)

    def _bare(self, root: Path, layout: Layout, files: Sequence[FrameFiles], as_found: bool) -> tuple[str, ...]:
        """Refuse images without label maps, or note them."""
        photos = {**layout.unread(root), **layout.frames_without_labels(root)}
        bare = {name for name in photos if self._belongs(name)} - {file.id for file in files}
        if not bare:
            return ()
        if not as_found:
            raise InputError(
                f"{self.name}: expected a label map for every image in {root} (as {layout}), found none for "
                f"{min(bare)!r} ({len(bare)} of {len(bare) + len(files)}); complete the set, take these images "
                f"out, or say that the others are meant ({AS_FOUND})"
            )
        return (f"{len(bare)} images have no label map, such as {min(bare)!r}, and are left out",)

    def _resized(self, files: Sequence[FrameFiles]) -> tuple[str, ...]:
        """Note images of other sizes than published."""
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
        """Tell by the label values which of the layout's encodings the set is in."""
        candidates = dict(layout.encodings or {"": self.encoding})
        seen: set[int] = set()
        anomalous = not self.anomalies
        enough = 1 if len(candidates) == 1 else 3  # one odd label map is not to decide for all
        for place, file in enumerate(files):
            if len(candidates) == 1 and anomalous and place >= enough:
                break
            try:
                seen |= set(np.unique(read_label(file.label)).tolist())
            except InputError:  # reading the frame will say so
                continue
            fitting = {name: one for name, one in candidates.items() if seen <= one.keys()}
            if not fitting:  # reading the frames will name the files whose values have no meaning
                return self._likeliest(layout, files)
            candidates = fitting
            anomalous = not self.anomalies or all(
                any(one[value] == ANOMALY for value in seen) for one in candidates.values()
            )
        if len({tuple(one[value] for value in sorted(seen)) for one in candidates.values()}) > 1:
            raise InputError(
                f"{self.name}: the label values {sorted(seen)} in {root} can mean different things "
                f"({'; '.join(candidates)}); get the set as published"
            )
        if self.anomalies and not anomalous:
            raise InputError(
                f"{self.name}: expected anomalies, found none in {len(files)} label maps of {root}, whose values are "
                f"{sorted(seen)}; get the set's own labels, and not those of a hidden split or another version"
            )
        return next(iter(candidates.items()))

    def _likeliest(self, layout: Layout, files: Sequence[FrameFiles]) -> tuple[str, Encoding]:
        """The encoding that most label maps are in, so that the others are those at fault."""
        fits: Counter[str] = Counter()
        encodings = dict(layout.encodings or {"": self.encoding})
        for file in files:
            try:
                values = set(np.unique(read_label(file.label)).tolist())
            except InputError:  # reading the frame will say so
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
        raise InputError(f"{self.name}: expected the mask {self.roi[0]} in {root}, found none; put it there")

    def _not_found(self, data_root: Path) -> str:
        """Say what is there instead."""
        roots = [data_root / folder for folder in self.folders]
        expected = " or ".join(str(layout) for layout in self.layouts)
        for root in roots:
            for layout in self.layouts:
                photos, labels = layout.find_images(root), layout.label_maps(root)
                if photos and self.hidden:
                    return (
                        f"{self.name}: the labels of this split are not public (maps of zeros are sometimes found in "
                        "their place); write its score maps with anomaly save-scores, and get its figures from "
                        f"{self.home}"
                    )
                if labels:
                    return (
                        f"{self.name}: found {len(labels)} label maps in {root} without images; expected "
                        f"{layout}; complete the set ({self.home})"
                    )
        looked_in = ", ".join(f"{root} ({holds(root)})" for root in roots)
        return (
            f"{self.name}: expected {expected}, found it in none of {looked_in}; "
            f"{self.obtain or 'get it from ' + self.home} and put it in {roots[0]}"
        )


def holds(folder: Path) -> str:
    """What is in a folder, in a few words."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return "empty"
    return "holds " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
