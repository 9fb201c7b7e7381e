"""Synthetic anomalies: cut-outs blended into ordinary labelled images, for calibrating.

Objects of known classes, cut out of the ordinary images, are pasted in the same way and stay known, so that the border
of a pasted object does not tell an anomaly. Metrics on such images are not those of a benchmark: never report them.

    OUT/record.json                                what was pasted where; says that the images are synthetic
    OUT/frame_list.json                            ["NAME.png", ...]
    OUT/frames/NAME.png
    OUT/frames/NAME.labels/labels_semantic.png     0 background, 2 anomaly

This is the layout of RoadAnomaly.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.entry import RECORD
from anomaly.datasets.folder import pair_folders
from anomaly.datasets.images import image_size, read_image, read_label
from anomaly.datasets.pasting.blending import (
    Floats,
    blend,
    cast_shadow,
    edge_width,
    harmonised,
    resized,
    spread_alpha,
)
from anomaly.datasets.pasting.objects import OPAQUE, Cutout, Region, Rgba, check_cutouts, find_cutouts, find_regions
from anomaly.datasets.pasting.settings import PasteSettings
from anomaly.errors import InputError
from anomaly.frames import Label, image_hash
from anomaly.utils.files import staged, write_whole
from anomaly.utils.given import plain, whole
from anomaly.utils.names import check_distinct

__all__ = ["PURPOSE", "PasteSettings", "paste_objects"]

VERSION = 1
"""Version of the generator; increase it when the same seed gives other images."""

PURPOSE = "for calibrating; never report metrics on it as those of a benchmark"

_ANOMALY_VALUE = 2
_SMALLEST = 12  # pixels, height of an object
_LEAST_PIXELS = 24  # of an object that are at least half opaque
_LARGEST_SCALE = 1.2  # of an object of a known class: enlarged further, it would be blurred
_DRAWS = 40  # tries to place an object


def paste_objects(
    images: str | Path,
    labels: str | Path,
    cutouts: str | Path,
    out: str | Path,
    settings: PasteSettings | None = None,
    *,
    cutout_masks: str | Path | None = None,
    limit: int | None = None,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Paste objects into ordinary images and write them with label maps, whole or not at all.

    The images are taken in an order that the seed gives. What is pasted into an image depends on the seed, its name,
    the cut-outs and, for known objects, the images before it in this order; so ``limit`` changes no image.

    Args:
        images: Folder with ordinary images, at any depth.
        labels: Folder with label maps of the same names: PNG files of class indices; 255 is no class.
        cutouts: Folder with objects to paste: images (PNG, WebP) with an alpha channel, or images with masks.
        out: Folder to make; it must not exist, or be empty.
        settings: Which objects are pasted, where, and how.
        cutout_masks: Folder with masks of the cut-outs, PNG files of the same names, not 0 at the object.
        limit: Number of images to make; ``None``: all.
        command: The command, for the record.
        progress: Called with the number of images done and the number of all.

    Returns:
        The record, as in ``record.json``.

    Raises:
        InputError: A folder is empty or broken, ``out`` holds something, an image has no pixel of the ground, or a
            cut-out is not one, is an ordinary image, or does not fit.
    """
    settings, out = settings or PasteSettings(), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: expected an empty folder or none, found files; delete it, or choose another folder")
    _warn(settings)
    sources = _sources(Path(images), Path(labels), settings.seed)
    chosen = sources if limit is None else sources[: whole("limit", limit, 1, "at least 1 image")]
    objects = find_cutouts(Path(cutouts), None if cutout_masks is None else Path(cutout_masks))
    check_cutouts(objects, [source.image for source in sources])
    _check_sizes(objects, chosen, settings)
    paster = _Paster(chosen, Path(images), objects, Path(cutouts), settings)
    with staged(out, ("frames", "frame_list.json", RECORD)) as stage:
        frames = {}
        for done, source in enumerate(chosen):
            if progress:
                progress(done, len(chosen))
            frames[source.frame] = paster.write(done, stage / "frames")
        names = sorted(frames)
        record = {
            "synthetic": True,
            "purpose": PURPOSE,
            "generator": "paste",
            "version": VERSION,
            "command": command,
            "settings": plain(settings),
            "images": [frames[name] for name in names],
        }
        write_whole(stage / "frame_list.json", json.dumps([f"{name}.png" for name in names], indent=1) + "\n")
        write_whole(stage / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if progress:
        progress(len(chosen), len(chosen))
    kinds = Counter(one["kind"] for frame in frames.values() for one in frame["objects"])
    for kind, count in (("anomaly", settings.objects_per_image), ("known", settings.known_count)):
        if kinds[kind] < count * len(chosen):
            warnings.warn(
                f"pasted {kinds[kind]} objects of kind {kind!r} instead of {count * len(chosen)}: the others found no "
                "place, or no region of a known class was large enough",
                stacklevel=2,
            )
    return record


def _warn(settings: PasteSettings) -> None:
    if not settings.ground:
        warnings.warn(
            "ground: no class given, so objects stand anywhere in the lower half of the images; name the classes of "
            "the ground, such as road and pavement",
            stacklevel=3,
        )
    if not settings.known_count:
        warnings.warn(
            "known_classes: no known object is pasted, so every pasted border is that of an anomaly, which a method "
            "can learn; name classes of objects, such as car and person",
            stacklevel=3,
        )


@dataclass(frozen=True)
class _Source:
    """An ordinary image and its label map; ``frame`` is its name in the output."""

    frame: str
    image: Path
    label: Path


def _sources(images: Path, labels: Path, seed: int) -> list[_Source]:
    """List the ordinary images in an order that the seed gives, which does not depend on their number."""
    sources = [_Source(name.replace("/", "_"), image, label) for name, image, label in pair_folders(images, labels)]
    check_distinct((source.frame for source in sources), "images", "rename one (folders become a part of the name)")
    return sorted(sources, key=lambda source: _digest(source.frame, seed))


def _digest(frame: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{frame}".encode()).digest()


def _check_sizes(cutouts: list[Cutout], sources: list[_Source], settings: PasteSettings) -> None:
    """Check that every cut-out is an object, and that it fits into every image even at its largest."""
    sizes = {size: source.image for source in sources if (size := image_size(source.image)) is not None}
    for cutout in cutouts:
        height, width = cutout.read().shape[:2]
        for (columns, rows), path in sizes.items():
            largest = settings.height[1] * rows
            if round(largest * width / height) > columns:
                raise InputError(
                    f"{cutout.path}: expected a cut-out that fits into the image {path.name} of {columns}x{rows}, "
                    f"found {round(largest * width / height)}x{round(largest)} pixels (width x height) on the lowest "
                    f"row; make objects smaller (--height), or remove it"
                )


@dataclass(frozen=True)
class _Object:
    """An object to paste: its pixels, and what the record says of it."""

    rgba: Rgba
    record: dict[str, Any]


class _Paster:
    """Pastes objects into images."""

    def __init__(
        self, sources: list[_Source], images: Path, cutouts: list[Cutout], folder: Path, settings: PasteSettings
    ) -> None:
        self._sources, self._images = sources, images
        self._cutouts, self._folder = cutouts, folder
        self._settings = settings
        self._regions: dict[int, list[Region]] = {}

    def write(self, i: int, folder: Path) -> dict[str, Any]:
        """Write image ``i`` and its label map; return its record."""
        source, s = self._sources[i], self._settings
        picture, label = self._read(i)
        scene = _Scene(picture.astype(np.float32), label, s)
        if not len(scene.places(s.height[1])):
            classes = f"class {', '.join(map(str, s.ground))}" if s.ground else "any class"
            raise InputError(
                f"{source.label}: expected pixels of the ground ({classes}) where an object has {_SMALLEST} pixels or "
                "more, found none; correct --ground, --horizon or --height, or leave this image out"
            )
        rng = np.random.default_rng(np.frombuffer(_digest(source.frame, s.seed), np.uint32))
        for _ in range(s.objects_per_image):
            scene.paste(rng, lambda height: self._draw_cutout(rng), anomaly=True)
        for _ in range(s.known_count):
            scene.paste(rng, lambda height: self._draw_known(rng, i, height), anomaly=False)
        if not scene.pasted:
            raise InputError(
                f"{source.image}: expected a place for an object, found none in {_DRAWS} draws; make objects larger "
                "(--height), or leave this image out"
            )
        result = np.clip(scene.image + 0.5, 0, 255).astype(np.uint8)
        _write_png(folder / f"{source.frame}.labels" / "labels_semantic.png", scene.anomaly * np.uint8(_ANOMALY_VALUE))
        _write_png(folder / f"{source.frame}.png", cv2.cvtColor(result, cv2.COLOR_RGB2BGR))
        return {
            "frame": source.frame,
            "source": source.image.relative_to(self._images).as_posix(),
            "source_hash": image_hash(picture),
            "objects": scene.pasted,
        }

    def _read(self, i: int) -> tuple[npt.NDArray[np.uint8], Label]:
        source = self._sources[i]
        picture, label = read_image(source.image), read_label(source.label)
        if picture.shape[:2] != label.shape:
            raise InputError(
                f"{source.label}: expected a label map of the size of {source.image}, "
                f"{picture.shape[1]}x{picture.shape[0]}, found {label.shape[1]}x{label.shape[0]} (width x height); use "
                "the label map of this image"
            )
        return picture, label

    def _draw_cutout(self, rng: np.random.Generator) -> _Object:
        cutout = self._cutouts[rng.integers(len(self._cutouts))]
        name = cutout.path.relative_to(self._folder).as_posix()
        return _Object(cutout.read(), {"kind": "anomaly", "source": name})

    def _draw_known(self, rng: np.random.Generator, i: int, height: float) -> _Object | None:
        """Draw an object from an image up to ``i``; ``None`` if it is too small for the height, or there is none."""
        donor = int(rng.integers(i + 1))
        if donor not in self._regions:
            self._regions[donor] = find_regions(read_label(self._sources[donor].label), self._settings.known_classes)
        regions = self._regions[donor]
        if not regions:
            return None
        region = regions[rng.integers(len(regions))]
        if height > _LARGEST_SCALE * len(region.mask):
            return None
        source = self._sources[donor].image
        name = source.relative_to(self._images).as_posix()
        place = {"class": region.class_index, "source_row": region.top, "source_column": region.left}
        return _Object(region.cut(self._read(donor)[0]), {"kind": "known", "source": name, **place})


class _Scene:
    """An image that objects are pasted into.

    Attributes:
        image: RGB image, 0..255. Shape ``(H, W, 3)``, float32.
        anomaly: Where an anomaly is. Shape ``(H, W)``, bool.
        pasted: Records of the objects.
    """

    def __init__(self, image: Floats, label: Label, settings: PasteSettings) -> None:
        self.image, self._settings = image, settings
        self.anomaly: npt.NDArray[np.bool_] = np.zeros(label.shape, bool)
        self.pasted: list[dict[str, Any]] = []
        self._taken: npt.NDArray[np.bool_] = np.zeros(label.shape, bool)
        self._edges = edge_width(image)
        ground = np.zeros(256, bool)
        ground[list(settings.ground) or slice(None)] = True
        self._ground = ground[label]
        if not settings.ground:
            self._ground[: len(label) // 2] = False
        self._places = np.argwhere(self._ground)  # in the order of rows

    def places(self, share: float) -> npt.NDArray[np.int64]:
        """Pixels of the ground where an object is large enough, as (row, column); ``share`` is its height below."""
        first = self._settings.first_row(_SMALLEST, len(self.image), share)
        return self._places[np.searchsorted(self._places[:, 0], first) :]

    def paste(self, rng: np.random.Generator, draw: Callable[[float], _Object | None], *, anomaly: bool) -> None:
        """Draw a height, a place and an object, and paste it there, where it covers no other one; or give up.

        Args:
            rng: Source of all draws.
            draw: Gives an object for a height in pixels, or ``None``.
            anomaly: Whether the object is an anomaly.
        """
        low, high = map(math.log, self._settings.height)
        for attempt in range(_DRAWS):
            share, mirrored = math.exp(rng.uniform(low, high)), bool(rng.integers(2))
            places = self.places(share)
            if not len(places):
                continue
            row, column = places[rng.integers(len(places))].tolist()
            height = self._settings.object_height(row, len(self.image), share)
            drawn = draw(height)
            if drawn is None:
                continue
            rows, columns = drawn.rgba.shape[:2]
            h, w = round(height), max(1, round(height * columns / rows))
            # In the first half of the draws, what stands beside the place may not be covered: it may be nearer.
            if not self._is_free(row, column, h, w, share_of_ground=0.8 if attempt < _DRAWS // 2 else 0):
                continue
            rgba = np.ascontiguousarray(drawn.rgba[:, ::-1]) if mirrored else drawn.rgba
            covered = self._blend(rgba, row, column, h, w)
            if covered is None:
                continue
            if anomaly:
                self.anomaly |= covered
            place = {"row": row, "column": column, "height": h, "width": w, "mirrored": mirrored}
            self.pasted.append({**drawn.record, **place, "pixels": int(covered.sum())})
            return

    def _is_free(self, row: int, column: int, h: int, w: int, *, share_of_ground: float) -> bool:
        """Whether no pasted object is in a box above a place, and its lowest row is on the ground by a share."""
        foot = self._ground[row, max(0, column - w // 4) : column + w // 4 + 1]
        return not self._taken[self._box(row, column, h, w)].any() and bool(foot.mean() >= share_of_ground)

    def _box(self, row: int, column: int, h: int, w: int) -> tuple[slice, slice]:
        left = column - w // 2
        return slice(max(0, row - h + 1), row + 1), slice(max(0, left), left + w)

    def _blend(self, rgba: Rgba, row: int, column: int, h: int, w: int) -> npt.NDArray[np.bool_] | None:
        """Blend an object; return the pixels that it covers, or ``None``, and no change, if too few would show it."""
        top, left = row - h + 1, column - w // 2
        patch = resized(rgba, h, w)
        settings = self._settings
        fitted, y, x = harmonised(self.image, patch, top, left, strength=settings.matching, edges=self._edges)
        covered = spread_alpha(fitted, y, x, self.anomaly.shape) >= OPAQUE
        if covered.sum() < max(_LEAST_PIXELS, (fitted[..., 3] >= OPAQUE).sum() / 2):
            return None
        cast_shadow(self.image, patch, top, left)
        blend(self.image, fitted, y, x)
        self._taken[self._box(row, column, h, w)] = True
        return covered


def _write_png(path: Path, array: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())
