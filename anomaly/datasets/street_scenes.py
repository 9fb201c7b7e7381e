"""Generated street scenes: the data set that is always at hand.

Every scene follows from its seed alone. ``write_street_scenes`` writes a closed-set training and validation
split in Cityscapes' layout and an open-world split in RoadAnomaly's:

    ROOT/street_scenes.json                                         settings, classes and palette
    ROOT/leftImg8bit/{train,val}/TOWN/NAME_leftImg8bit.png
    ROOT/gtFine/{train,val}/TOWN/NAME_gtFine_labelTrainIds.png      class ids, the index into CLASSES
    ROOT/open_world/frame_list.json                                 ["NAME.jpg", ...]
    ROOT/open_world/frames/NAME.jpg
    ROOT/open_world/frames/NAME.labels/labels_semantic.png          0 background, 2 anomaly
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.street.classes import CLASSES, PALETTE
from anomaly.datasets.street.scene import Scene, render_scene
from anomaly.errors import InputError

__all__ = ["CLASSES", "PALETTE", "Scene", "render_scene", "write_street_scenes"]

VERSION = 1
"""Raise this whenever the same seed gives another scene."""

ANOMALY_FREE = 0.15
"""Share of the open-world frames that hold no anomaly."""

_ANOMALY_VALUE = 2
_TOWNS = {"train": ("alderwick", "birchford", "cedarham", "dunmere"), "val": ("elmstead", "foxbury")}
# Seeds of the splits are this far apart, so that no scene is in two of them.
_STRIDE = 1_000_000


@dataclass(frozen=True)
class _Job:
    """One frame to render; ``image`` and ``label`` are paths below the root."""

    seed: int
    anomalies: int
    image: str
    label: str
    open_world: bool

    def files(self, size: tuple[int, int]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """Path and content of each file, the image last."""
        scene = render_scene(self.seed, size, self.anomalies)
        label = (scene.anomaly * np.uint8(_ANOMALY_VALUE)) if self.open_world else scene.label
        yield self.label, label
        yield self.image, cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)


def write_street_scenes(
    root: Path,
    train: int = 240,
    val: int = 40,
    open_world: int = 40,
    size: tuple[int, int] = (360, 480),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the data set to ``root``, whole or not at all.

    Frames are collected in ``.NAME.partial`` beside ``root`` and moved into place when all are there; a run
    that was stopped is taken up where it ended. Where ``root`` holds the set already, nothing is done.

    Args:
        root: Folder to make; its parents are made too.
        train: Number of training frames.
        val: Number of validation frames.
        open_world: Number of open-world frames; ``ANOMALY_FREE`` of them, rounded, hold no anomaly, others
            1 to 4.
        size: ``(H, W)`` in pixels.
        seed: 0 or more; sets of different seeds have no scene in common.
        progress: Called with ``(frames done, frames in all)``.

    Raises:
        InputError: ``root`` holds something else, or a number is out of its range.
    """
    if min(train, val, open_world, seed) < 0 or min(size) < 32:
        raise InputError(
            "street_scenes: expected train, val, open-world and seed >= 0 and a size of at least 32x32, "
            f"found train={train}, val={val}, open-world={open_world}, seed={seed}, size={size[0]}x{size[1]}"
        )
    settings: dict[str, object] = {
        "generator": "street_scenes",
        "version": VERSION,
        "train": train,
        "val": val,
        "open_world": open_world,
        "size": list(size),
        "seed": seed,
        "classes": list(CLASSES),
        "palette": [list(colour) for colour in PALETTE],
    }
    jobs = _plan(train, val, open_world, seed)
    root = Path(root)
    if _is_complete(root, settings, jobs):
        return
    partial = _open_partial(root, settings)
    for done, job in enumerate(jobs):
        if progress:
            progress(done, len(jobs))
        # The image comes last, so where it is the label is too.
        if not (partial / job.image).is_file():
            for name, array in job.files(size):
                _write_image(partial / name, array)
    if open_world:
        frames = [Path(job.image).name for job in jobs if job.open_world]
        _write_json(partial / "open_world" / "frame_list.json", frames)
    if root.is_dir():
        root.rmdir()
    os.replace(partial, root)
    if progress:
        progress(len(jobs), len(jobs))


def _plan(train: int, val: int, open_world: int, seed: int) -> list[_Job]:
    first = seed * 3 * _STRIDE
    jobs = []
    for split, count, start in (("train", train, first), ("val", val, first + _STRIDE)):
        for i in range(count):
            town = _TOWNS[split][i % len(_TOWNS[split])]
            name = f"{split}/{town}/{town}_{i:06d}_000000"
            image, label = f"leftImg8bit/{name}_leftImg8bit.png", f"gtFine/{name}_gtFine_labelTrainIds.png"
            jobs.append(_Job(start + i, 0, image, label, open_world=False))
    rng = np.random.default_rng([seed, open_world])
    free = set(rng.permutation(open_world)[: round(ANOMALY_FREE * open_world)].tolist())
    for i, count in enumerate(rng.integers(1, 5, open_world).tolist()):
        name = f"open_world/frames/street_{i:04d}"
        anomalies = 0 if i in free else count
        start = first + 2 * _STRIDE
        jobs.append(_Job(start + i, anomalies, f"{name}.jpg", f"{name}.labels/labels_semantic.png", open_world=True))
    return jobs


def _is_complete(root: Path, settings: dict[str, object], jobs: list[_Job]) -> bool:
    """Whether ``root`` holds this very set: ``False`` where there is nothing, an error for something else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = "delete it or choose another folder"
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder for street_scenes, found a file; {advice}")
    record = root / "street_scenes.json"
    if not record.is_file():
        raise InputError(f"{root}: expected nothing or generated street scenes, found other files; {advice}")
    found = _read_settings(record)
    if any(found.get(key) != value for key, value in settings.items()):
        there = ", ".join(f"{key}={found.get(key)}" for key in settings if found.get(key) != settings[key])
        asked = ", ".join(f"{key}={value}" for key, value in settings.items() if found.get(key) != value)
        raise InputError(f"{root}: expected street scenes with {asked}, found a set with {there}; {advice}")
    lost = [name for job in jobs for name in (job.image, job.label) if not (root / name).is_file()]
    if lost:
        raise InputError(f"{root}: {len(lost)} files of the set are missing, the first {lost[0]}; {advice}")
    return True


def _open_partial(root: Path, settings: dict[str, object]) -> Path:
    """The folder where frames are collected, emptied unless it was begun with the same settings."""
    partial = root.parent / f".{root.name}.partial"
    record = partial / "street_scenes.json"
    if partial.exists() and (not record.is_file() or _read_settings(record) != settings):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    _write_json(record, settings)
    return partial


def _read_settings(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write_image(path: Path, array: npt.NDArray[np.uint8]) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    _, data = cv2.imencode(path.suffix, array, options)
    _replace(path, data.tobytes())


def _write_json(path: Path, content: object) -> None:
    _replace(path, (json.dumps(content, indent=1) + "\n").encode())


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_bytes(data)
    os.replace(draft, path)
