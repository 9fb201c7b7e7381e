"""Score maps on disk, so that inference and evaluation can run separately: other machines, people or software."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from anomaly.datasets.catalog import SETS
from anomaly.datasets.dataset import Dataset
from anomaly.datasets.walk import files_below, is_folder, listed
from anomaly.errors import InputError
from anomaly.frames import as_array, as_score, check_score
from anomaly.results.score_formats import READERS, Scale, read_map
from anomaly.results.score_formats.base import check_scale
from anomaly.utils.files import write_whole
from anomaly.utils.given import plain, text

MANIFEST = "scores.json"
IMAGES = "images.jsonl"
FORMAT, VERSION = "anomaly-scores", 1
ScoreArray = npt.NDArray[np.floating[Any]]


class ScoreWriter:
    """Writes score maps as they are computed. Each file appears whole or not at all, and a stopped run can resume.

    The folder holds ``scores.json``, which describes the maps, and ``SCORE/FRAME.npy`` for each score and frame:
    float32 (float64 if float32 cannot represent every value), ``(H, W)``, higher = more anomalous. Characters of a
    frame's name other than letters, digits, ``_``, ``-``, ``.`` and ``~`` are percent-encoded.

    ``images.jsonl`` has a line for each map with its score, frame and image (:func:`anomaly.frames.image_hash`); the
    last line for a map counts. A map never has the line of another image, even after an interruption: a map of another
    image is removed first, then the line is written, then the map.

    Args:
        folder: Folder to write to; created if missing. Maps that an earlier run with the same arguments wrote there are
            kept and used.
        dataset: Name of the dataset. If the folder holds maps of a dataset of another name, nothing is written until
            :meth:`has` finds one of them for the same frame and image, which shows that the dataset was renamed.
        method: What computed the scores, such as the name of a network.
        settings: Other settings that the scores depend on: containers, strings and numbers.

    Raises:
        InputError: The folder holds other files, or maps of another dataset, method or settings.
    """

    def __init__(self, folder: Path, *, dataset: str, method: str, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.manifest = {"format": FORMAT, "version": VERSION}
        self.manifest |= {"set": text("dataset", dataset), "method": text("method", method)}
        self.manifest["settings"] = plain(dict(settings or {}), "settings")
        self._images: dict[tuple[str, str], str | None] = {}
        self._other_dataset: str | None = None
        if (folder / MANIFEST).is_file():
            there = _read_manifest(folder)
            self._images = _read_images(folder)
            differing = [key for key, value in self.manifest.items() if there.get(key) != value]
            if differing == ["set"] and self._images:
                self._other_dataset = there["set"]
            elif differing:
                raise InputError(self._of_another(differing[0], there.get(differing[0])))
        elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InputError(
                f"{folder}: expected a new folder, or one with score maps, found other files; name another folder"
            )
        else:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"{folder}: expected a folder that can be created, found: {error.strerror}; name another"
                ) from error
            write_whole(folder / MANIFEST, json.dumps(self.manifest, indent=2) + "\n")

    def write(self, frame_id: str, name: str, score: npt.NDArray[Any], image: str | None = None) -> None:
        """Write a score map.

        Args:
            frame_id: Name of the frame.
            name: Name of the score.
            score: The map. Shape: ``(H, W)``.
            image: :func:`anomaly.frames.image_hash` of the frame's image; None if it is not known.

        Raises:
            InputError: A value is NaN or infinite, ``score`` is not a map of real numbers, the frame's name is not a
                string, the folder holds maps of other images, or the disk is full.
        """
        if self._other_dataset is not None:
            raise InputError(self._of_another("set", self._other_dataset))
        path, score = self._path(frame_id, name), as_array(frame_id, f"score {name!r}", score)
        if score.ndim != 2:
            raise InputError(
                f"frame {frame_id!r}: expected a score map (H, W), found shape {score.shape}; give one number for each "
                "pixel"
            )
        score = as_score(frame_id, name, score, score.shape)
        narrow = score.astype(np.float32)
        exact = narrow if (narrow == score).all() else score.astype(np.float64)
        # not write_whole, whose temporary name ends in .npy: an interruption would leave something like a map
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, exact, allow_pickle=False)
            if self._images.get((name, frame_id)) != image:
                path.unlink(missing_ok=True)
                _append(self.folder / IMAGES, {"score": name, "frame": frame_id, "image": image})
                self._images[name, frame_id] = image
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); free some space, then run the command again"
            ) from error

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        """Whether scores of a frame are stored.

        Args:
            frame_id: Name of the frame.
            names: Names of the scores.
            image: Hash of the frame's image, of which the scores must be; None does not check it.
        """
        if not all(self._path(frame_id, name).is_file() for name in names):
            return False
        if image is None:
            return True
        same = all(self._images.get((name, frame_id)) == image for name in names)
        if same and names:
            self._other_dataset = None
        return same

    def check(self, frame_id: str, names: Iterable[str], image: str) -> None:
        """Refuse scores of a frame that are known to belong to another image.

        Args:
            frame_id: Name of the frame.
            names: Names of the scores.
            image: :func:`anomaly.frames.image_hash` of the frame's image.

        Raises:
            InputError: They belong to another image.
        """
        for name in names:
            _check_image(self._path(frame_id, name), frame_id, self._images.get((name, frame_id)), image)

    def read(self, name: str, frame_id: str) -> ScoreArray:
        """Read a stored map. Shape: ``(H, W)``.

        Args:
            name: Name of the score.
            frame_id: Name of the frame.

        Raises:
            InputError: The file is damaged.
        """
        return _read(self._path(frame_id, name), name, frame_id, None)

    def _of_another(self, key: str, found: Any) -> str:
        word = {"set": "dataset"}.get(key, key)  # the file keeps the key of earlier versions
        return (
            f"{self.folder}: expected score maps of {word} {self.manifest[key]!r}, found those of {found!r}; name "
            "another folder, or remove this one"
        )

    def _path(self, frame_id: str, name: str) -> Path:
        if not isinstance(frame_id, str) or not frame_id:
            raise InputError(
                f"score {name!r}: expected the name of a frame as a string, found {frame_id!r}; give every frame a name"
            )
        return self.folder / _quoted(name) / f"{_quoted(frame_id)}.npy"


@dataclass(frozen=True)
class StoredScores:
    """Score maps that were found in a folder.

    Args:
        folder: The folder.
        format: ``own`` for maps of :class:`ScoreWriter`, or the name of the file format.
        files: File of each frame, by score.
        dataset: Name of their dataset; empty if the folder does not say.
        method: What computed them; empty if the folder does not say.
        settings: Settings that they depend on; empty if the folder does not say.
        scale: Scores of the smallest and the largest integer, for maps of integers.
        images: :func:`anomaly.frames.image_hash` of the image of each file, if the folder says.
        unused: Names of maps that exist but are not in ``files``, because they belong to no requested frame.
    """

    folder: Path
    format: str
    files: Mapping[str, Mapping[str, Path]]
    dataset: str = ""
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    scale: Scale | None = None
    images: Mapping[Path, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(self.files)

    def of_frames(self, frame_ids: Sequence[str]) -> StoredScores:
        """Return the files under the names of a dataset's frames, and no other files.

        A file belongs to the frame that has its full name. Otherwise it belongs to the frame whose name is the end of
        the file's name, at a folder boundary, or the reverse; otherwise to the frame with the same last part. Each rule
        applies only if it is unambiguous.

        Args:
            frame_ids: Names of the frames.

        Raises:
            InputError: A frame has no score map, or a match is ambiguous.
        """
        found = {name: self._match(name, files, frame_ids) for name, files in self.files.items()}
        taken = {path for files in found.values() for path in files.values()}
        left = {frame for files in self.files.values() for frame, path in files.items() if path not in taken}
        return replace(self, files=found, unused=(*self.unused, *sorted(left)))

    def _match(self, name: str, files: Mapping[str, Path], frame_ids: Sequence[str]) -> dict[str, Path]:
        by_last: dict[str, list[str]] = {}
        for file in files:
            by_last.setdefault(PurePosixPath(file).name, []).append(file)
        last_parts = Counter(PurePosixPath(frame).name for frame in frame_ids)
        found: dict[str, str] = {}  # file: frame
        missing = []
        for frame in frame_ids:
            last = PurePosixPath(frame).name
            alike = by_last.get(last, [])
            fitting = [file for file in alike if f"/{file}".endswith(f"/{frame}") or f"/{frame}".endswith(f"/{file}")]
            fitting = [frame] if frame in files else fitting or (alike if last_parts[last] == 1 else [])
            if not alike:
                missing.append(frame)
            elif len(fitting) != 1 or fitting[0] in found:
                raise InputError(
                    f"{self.folder}: expected one file for frame {frame!r}, and for no other frame, found "
                    f"{' and '.join(alike[:2])}; name the files like the frames, folders included"
                )
            else:
                found[fitting[0]] = frame
        if missing:
            raise InputError(
                f"{self.folder}: expected a map of {name} for each of {len(frame_ids)} frames, found none for "
                f"{missing[0]!r} ({len(missing)} are missing); complete the folder, as partial datasets are not "
                "evaluated"
            )
        return {frame: files[file] for file, frame in found.items()}

    def read(self, name: str, frame_id: str) -> ScoreArray:
        """Read a map. Shape: ``(H, W)``, float32 or float64 as it is stored.

        Args:
            name: Name of the score.
            frame_id: Name of the frame.

        Raises:
            InputError: The file is damaged, holds something else, or a value is NaN or infinite.
        """
        path = self.files[name][frame_id]
        return _read(path, name, frame_id, self.scale)

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        """Whether scores of a frame are stored.

        Args:
            frame_id: Name of the frame.
            names: Names of the scores.
            image: Hash of the frame's image; None does not check it.

        Raises:
            InputError: The scores belong to another image.
        """
        there = all(frame_id in self.files.get(name, ()) for name in names)
        if there and image is not None:
            self.check(frame_id, names, image)
        return there

    def check(self, frame_id: str, names: Iterable[str], image: str) -> None:
        """Refuse stored scores of a frame if the folder says that they belong to another image.

        Args:
            frame_id: Name of the frame.
            names: Names of the scores.
            image: :func:`anomaly.frames.image_hash` of the frame's image.

        Raises:
            InputError: They belong to another image.
        """
        for name in names:
            path = self.files[name][frame_id]
            _check_image(path, frame_id, self.images.get(path), image)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Iterate over all pairs of score and frame names."""
        return ((name, frame) for name, files in self.files.items() for frame in files)


def open_scores(folder: Path, *, scale: Scale | None = None) -> StoredScores:
    """Find the score maps in a folder, whatever software wrote them.

    It recognises folders of :class:`ScoreWriter`, and otherwise files of one format at any depth: ``.npy``; ``.npz``
    with one array; PNG or TIFF of one channel, whose integers need ``scale``; SegmentMeIfYouCan's ``.hdf5``. The path
    of a file below the folder, without suffix, is the name of its frame. Links are followed; hidden files are ignored.

    Args:
        folder: The folder.
        scale: For integers: the scores of the smallest and of the largest integer.

    Raises:
        InputError: There are no score maps, files of several formats or methods, or two files of one frame.
    """
    scale = check_scale(scale)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with score maps, found none; check the path")
    if (folder / MANIFEST).is_file():
        return _open_own(folder)
    files_there = files_below(folder)
    if names := [str(place.relative_to(folder)) for place in _own_folders(files_there)]:
        raise InputError(
            f"{folder}: expected the maps of one dataset, found those of {', '.join(names)}; name one of the folders"
        )
    found = [path for path in files_there if path.suffix.lower() in READERS]
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
                f"{folder}: expected the maps of one method on one dataset, found {len(parents)} folders of them, such "
                "as "
                f"{parents[0]} and {parents[1]}; name one of them"
            )
        root, method, set_name = parents[0], parents[0].parent.name, parents[0].name
    files: dict[str, Path] = {}
    for path in found:
        frame = path.relative_to(root).with_suffix("").as_posix()
        if frame in files:
            raise InputError(
                f"{folder}: expected one file of frame {frame!r}, found {files[frame].name} and {path.name}; remove one"
            )
        files[frame] = path
    return StoredScores(folder, kinds[0], {"predictions": files}, set_name, method, scale=scale)


def open_dataset_scores(folder: Path, dataset: Dataset, *, scale: Scale | None = None) -> StoredScores:
    """Find the score maps of a dataset's frames.

    They may be in a subfolder with the dataset's name (for half of a dataset, also with the name of the whole), in
    ``folder`` itself, or in the only subfolder that has a map of every frame, whatever its name.

    Args:
        folder: The folder.
        dataset: The dataset.
        scale: For integers: the scores of the smallest and of the largest integer.

    Raises:
        InputError: The folder has no readable score maps; a frame has no score map; several subfolders have maps of all
            frames; or the maps, whose images are not recorded, name another dataset of the catalogue.
    """
    stored = _find_stored(folder, dataset, scale)
    told = all(path in stored.images for files in stored.files.values() for path in files.values())
    if stored.format == "own" and not told and _whole(dataset.name) != _whole(stored.dataset) in SETS:
        raise InputError(
            f"{stored.folder}: expected score maps of {dataset.name}, found those of {stored.dataset}; name the right "
            "folder"
        )
    return stored.of_frames([files.id for files in dataset.files])


def _find_stored(folder: Path, dataset: Dataset, scale: Scale | None) -> StoredScores:
    for below in (folder / dataset.name, folder / _whole(dataset.name)):
        if below.is_dir():
            return open_scores(below, scale=scale)
    if not folder.is_dir() or (folder / MANIFEST).is_file():
        return open_scores(folder, scale=scale)
    places = _own_folders(files_below(folder))
    if not places:
        return open_scores(folder, scale=scale)
    fitting, faults = [], []
    for stored in map(_open_own, places):
        try:
            stored.of_frames([files.id for files in dataset.files])
            fitting.append(stored)
        except InputError as error:
            faults.append(str(error))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(str(stored.folder) for stored in fitting)
        raise InputError(
            f"{folder}: expected the maps of {dataset.name} in one folder, found its frames in {names}; name one of "
            "them"
        )
    if len(places) == 1:
        raise InputError(faults[0])
    raise InputError(
        f"{folder}: expected the maps of {dataset.name}, found those of {', '.join(place.name for place in places)}, "
        f"none of which has every frame; name the right folder ({faults[0]})"
    )


def _quoted(name: str) -> str:
    """A name as the name of a file in the same folder that is not hidden."""
    quoted = quote(text("name", name), safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _check_image(path: Path, frame_id: str, of: str | None, image: str) -> None:
    if of is not None and of != image:
        raise InputError(
            f"{path}: expected the scores of the image of frame {frame_id!r}, found those of another image of that "
            f"name (recorded in {IMAGES}); name the folder with the maps of these images, or compute them. If only "
            f"the JPEG decoder differs, remove {IMAGES}: then only names are compared"
        )


def _whole(name: str) -> str:
    """The name of the dataset of which this is a half, or the name itself."""
    return name.removesuffix("-first").removesuffix("-second")


def _own_folders(files: Iterable[Path]) -> list[Path]:
    return [path.parent for path in files if path.name == MANIFEST]


def _read(path: Path, name: str, frame_id: str, scale: Scale | None) -> ScoreArray:
    score = read_map(path, scale)
    check_score(frame_id, name, score, score.shape)
    return score


def _open_own(folder: Path) -> StoredScores:
    manifest = _read_manifest(folder)
    images = _read_images(folder)
    files: dict[str, dict[str, Path]] = {}
    hashes: dict[Path, str] = {}
    for place in filter(is_folder, listed(folder)):
        for path in listed(place, hidden=True):
            if path.suffix == ".npy" and not is_folder(path):
                name, frame = unquote(place.name), unquote(path.stem)
                files.setdefault(name, {})[frame] = path
                if (image := images.get((name, frame))) is not None:
                    hashes[path] = image
    if not files:
        raise InputError(
            f"{folder}: expected score maps, found only {MANIFEST}; compute them first (anomaly save-scores)"
        )
    found = {path for of_score in files.values() for path in of_score.values()}
    strays = [str(path.relative_to(folder)) for path in files_below(folder) if path.suffix == ".npy"]
    unused = tuple(name for name in strays if folder / name not in found)
    described = (manifest["set"], manifest["method"], manifest["settings"])
    return StoredScores(folder, "own", files, *described, images=hashes, unused=unused)


def _read_images(folder: Path) -> dict[tuple[str, str], str | None]:
    """The image of each map, by score and frame. Truncated lines are ignored: a stopped run may leave one."""
    found: dict[tuple[str, str], str | None] = {}
    path = folder / IMAGES
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
            name, frame, image = entry["score"], entry["frame"], entry["image"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(name, str) and isinstance(frame, str) and (image is None or isinstance(image, str)):
            found[name, frame] = image
    return found


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
            f"{path}: expected the description that anomaly save-scores writes, found something else ({error}); "
            "compute the "
            "maps again"
        ) from error
    if manifest["version"] != VERSION:
        raise InputError(
            f"{path}: expected version {VERSION} of this layout, found {manifest['version']!r}; use the version of the "
            "software that wrote it"
        )
    return manifest


def _append(path: Path, entry: Mapping[str, str | None]) -> None:
    """Append a line of JSON, on a new line if the last one was truncated."""
    with path.open("a+b") as file:
        start = b""
        if file.tell():
            file.seek(-1, os.SEEK_END)
            start = b"" if file.read() == b"\n" else b"\n"
        file.write(start + json.dumps(entry).encode() + b"\n")
