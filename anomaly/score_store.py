"""Score maps on disk, so that inference and scoring can be separate: other machines, other people, other software."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from anomaly.datasets.split import Split
from anomaly.errors import InputError
from anomaly.labels import check_score
from anomaly.score_formats import READERS, Scale, read_map

MANIFEST = "scores.json"
FORMAT, VERSION = "anomaly-scores", 1
ScoreArray = npt.NDArray[np.floating[Any]]


class ScoreWriter:
    """Writes score maps as they are computed: each file appears whole or not at all, and a stopped run can go on.

    The folder holds ``scores.json``, which says what the maps are of, and ``SCORE/FRAME.npy`` for each score and frame:
    float32 (float64 where float32 does not hold every value), ``(H, W)``, higher = more anomalous. What is not a
    letter, digit, ``_``, ``-``, ``.`` or ``~`` in a frame's name is percent-encoded.

    Args:
        folder: Where to; made if missing. What an earlier run of the same wrote there stays and counts.
        set: Name of the evaluation set.
        method: What computed the scores, such as a network's name.
        settings: What the scores depend on beside; containers, strings and numbers.

    Raises:
        InputError: The folder holds something else, or maps of another set, method or settings.
    """

    def __init__(self, folder: Path, *, set: str, method: str, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.manifest = {"format": FORMAT, "version": VERSION, "set": set, "method": method}
        self.manifest["settings"] = json.loads(json.dumps(settings or {}))
        if (folder / MANIFEST).is_file():
            there = _read_manifest(folder)
            if differing := [key for key, value in self.manifest.items() if there.get(key) != value]:
                key = differing[0]
                raise InputError(
                    f"{folder}: expected score maps of {key} {self.manifest[key]!r}, found those of "
                    f"{there.get(key)!r}; name another folder, or remove this one"
                )
        elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InputError(
                f"{folder}: expected no folder or one with score maps, found other files; name another folder"
            )
        else:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder}: expected a folder or a place for one, found {error.strerror}") from error
            _write(folder / MANIFEST, (json.dumps(self.manifest, indent=2) + "\n").encode())

    def write(self, frame_id: str, name: str, score: npt.NDArray[Any]) -> None:
        """Write one map. Shape: ``(H, W)``.

        Raises:
            InputError: A value is NaN or infinite, it is no map of real numbers, or the disk is full.
        """
        score = np.asarray(score)
        if score.ndim != 2 or score.dtype.kind not in "fiub":
            raise InputError(
                f"frame {frame_id!r}: expected a score map (H, W) of real numbers, found {score.dtype} of shape "
                f"{score.shape}"
            )
        check_score(frame_id, name, score, score.shape)
        narrow = score.astype(np.float32)
        exact = narrow if (narrow == score).all() else score.astype(np.float64)
        path = self._path(frame_id, name)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                np.save(file, exact, allow_pickle=False)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(f"{path}: cannot be written ({error.strerror}); make room, then run it again") from error

    def has(self, frame_id: str, names: Iterable[str]) -> bool:
        """Whether these scores of a frame are there."""
        return all(self._path(frame_id, name).is_file() for name in names)

    def read(self, name: str, frame_id: str) -> ScoreArray:
        """Read a map that is there. Shape: ``(H, W)``.

        Raises:
            InputError: The file is broken.
        """
        return _read(self._path(frame_id, name), name, frame_id, None)

    def _path(self, frame_id: str, name: str) -> Path:
        return self.folder / quote(name, safe="") / f"{quote(frame_id, safe='')}.npy"


@dataclass(frozen=True)
class StoredScores:
    """Score maps that were found in a folder.

    Args:
        folder: Where.
        format: ``own``, or the suffix of the files.
        set: Name of their set; empty where nothing tells it.
        method: What computed them; likewise.
        settings: What they depend on; likewise.
        files: The file of each frame, by score.
        scale: What integers mean.
    """

    folder: Path
    format: str
    files: Mapping[str, Mapping[str, Path]]
    set: str = ""
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    scale: Scale | None = None

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(self.files)

    def of_frames(self, frame_ids: Sequence[str]) -> StoredScores:
        """The same with the files under the names of a set's frames, and of no others.

        A file belongs to the frame whose whole name it has; or else to the one whose name ends in it, where that leaves
        no doubt.

        Raises:
            InputError: A frame has no score, or more than one file could be meant.
        """
        return StoredScores(
            **{**vars(self), "files": {name: self._match(name, files, frame_ids) for name, files in self.files.items()}}
        )

    def _match(self, name: str, files: Mapping[str, Path], frame_ids: Sequence[str]) -> dict[str, Path]:
        stems: dict[str, list[Path]] = {}
        for frame, path in files.items():
            stems.setdefault(PurePosixPath(frame).name, []).append(path)
        short = [PurePosixPath(one).name for one in frame_ids]
        found, missing = {}, []
        for frame, stem in zip(frame_ids, short, strict=True):
            if frame in files:
                found[frame] = files[frame]
            elif len(stems.get(stem, ())) == 1 and short.count(stem) == 1:
                found[frame] = stems[stem][0]
            elif stem in stems:
                raise InputError(
                    f"{self.folder}: expected one file for frame {frame!r}, found {stems[stem][0]} and maybe others; "
                    "name the files as the frames, folders included"
                )
            else:
                missing.append(frame)
        if missing:
            raise InputError(
                f"{self.folder}: expected a map of {name} for each of {len(frame_ids)} frames, found none for "
                f"{missing[0]!r} ({len(missing)} are missing); complete the folder, no figure of a part is given"
            )
        return found

    def read(self, name: str, frame_id: str) -> ScoreArray:
        """Read one map. Shape: ``(H, W)``, float32 or float64 as it is stored.

        Raises:
            InputError: The file is broken, holds something else, or a value is NaN or infinite.
        """
        path = self.files[name][frame_id]
        return _read(path, name, frame_id, self.scale)

    def has(self, frame_id: str, names: Iterable[str]) -> bool:
        """Whether these scores of a frame are there."""
        return all(frame_id in self.files.get(name, ()) for name in names)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every score's name with every frame."""
        return ((name, frame) for name, files in self.files.items() for frame in files)


def open_scores(folder: Path, *, scale: Scale | None = None) -> StoredScores:
    """Find score maps in a folder, whatever wrote them.

    Recognised are what :class:`ScoreWriter` writes, and otherwise files at any depth of one format: ``.npy``; ``.npz``
    with one array; PNG or TIFF of one channel, whose integers need ``scale``; SegmentMeIfYouCan's ``.hdf5``. A file's
    path below the folder, without suffix, is the name of its frame.

    Args:
        folder: Where to look.
        scale: For integers: the scores of the smallest and of the largest integer.

    Raises:
        InputError: There are no score maps, files of several formats or methods, or two files of one frame.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with score maps, found none; check the path")
    if (folder / MANIFEST).is_file():
        return _open_own(folder)
    if sets := sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}")):
        raise InputError(f"{folder}: expected the maps of one set, found those of {', '.join(sets)}; name one's folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READERS and path.is_file())
    found = [path for path in found if not path.name.startswith(".")]
    kinds = sorted({READERS[path.suffix.lower()].name for path in found})
    if len(kinds) != 1:
        raise InputError(
            f"{folder}: expected score maps of one format of {', '.join(READERS)}, found "
            f"{' and '.join(kinds) or 'none'}; name the folder of one method's maps"
        )
    root, method, set_name = folder, "", ""
    if kinds == ["hdf5"]:
        parents = sorted({path.parent for path in found})
        if len(parents) > 1:
            raise InputError(
                f"{folder}: expected the maps of one method on one set, found {len(parents)} folders of them, such as "
                f"{parents[0]} and {parents[1]}; name one of them"
            )
        root, method, set_name = parents[0], parents[0].parent.name, parents[0].name
    files: dict[str, Path] = {}
    for path in found:
        frame = path.relative_to(root).with_suffix("").as_posix()
        if frame in files:
            raise InputError(
                f"{folder}: expected one file of frame {frame!r}, found {files[frame].name} and {path.name}"
            )
        files[frame] = path
    return StoredScores(folder, kinds[0], {"predictions": files}, set_name, method, scale=scale)


def open_set(folder: Path, split: Split, *, scale: Scale | None = None) -> StoredScores:
    """Find the score maps of a set's frames: in a folder of the set's name below ``folder``, or in ``folder`` itself.

    Raises:
        InputError: As :func:`open_scores`; or a frame has no score, or the maps say that they are of another set.
    """
    below = folder / split.name
    stored = open_scores(below if below.is_dir() else folder, scale=scale)
    if stored.format == "own" and split.name.removesuffix("-first").removesuffix("-second") != stored.set != split.name:
        raise InputError(
            f"{stored.folder}: expected score maps of {split.name}, found those of {stored.set}; name its folder"
        )
    return stored.of_frames([files.id for files in split.files])


def _read(path: Path, name: str, frame_id: str, scale: Scale | None) -> ScoreArray:
    score = read_map(path, scale)
    check_score(frame_id, name, score, score.shape)
    return score


def _open_own(folder: Path) -> StoredScores:
    manifest = _read_manifest(folder)
    files = {
        unquote(place.name): {unquote(path.stem): path for path in sorted(place.glob("*.npy"))}
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }
    if not files:
        raise InputError(f"{folder}: expected score maps, found only {MANIFEST}; compute them first")
    return StoredScores(folder, "own", files, manifest["set"], manifest["method"], manifest["settings"])


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or not isinstance(manifest["settings"], dict):
            raise ValueError("another format")
        if not all(isinstance(manifest[key], str) for key in ("set", "method")):
            raise ValueError("names are missing")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected what a score writer says of its maps, found something else ({error})"
        ) from error
    if manifest["version"] != VERSION:
        raise InputError(
            f"{path}: expected version {VERSION} of this layout, found {manifest['version']!r}; read it with the "
            "software that wrote it"
        )
    return manifest


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
