"""Which image of a data set has which class: read from the label maps once, then kept in a file."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations as AnyLoadAnnotations
from mmengine.logging import print_log
from mmseg.datasets.transforms import LoadAnnotations

from anomaly.errors import InputError

_SECONDS_BETWEEN_REMARKS = 10


def class_index(dataset: Any) -> np.ndarray:
    """Tell which classes have a pixel in which image's label map.

    Labels are read as in training: with the data set's own ``LoadAnnotations``, hence its ``reduce_zero_label`` and
    label map. The answer is kept as ``.NAME.class_index.npz`` beside the folder NAME that holds the label maps or,
    where that cannot be written, in ``gmmseg`` of the user's cache folder (``XDG_CACHE_HOME``). It is made anew when
    a label map's name, size or time of change, or a setting that bears on labels, is not as it was, and when the
    file is damaged.

    Args:
        dataset: An mmseg data set or mmengine's wrapper of such: ``metainfo["classes"]``, ``get_data_info``.

    Returns:
        Shape ``(F, C)``, bool.

    Raises:
        InputError: No class names, no label maps, or one that cannot be read.
    """
    classes = dataset.metainfo.get("classes")
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if not classes or not infos or not all(info.get("seg_map_path") for info in infos):
        raise InputError(
            f"ClassBalancedSampler needs class names and a label map for every image; {type(dataset).__name__} has "
            f"{len(classes or ())} names, {len(infos)} images, {sum('seg_map_path' in info for info in infos)} label "
            "maps; complete the data set in the config, or take the InfiniteSampler"
        )
    loader = _loader(dataset)
    folder = Path(os.path.commonpath([os.path.dirname(os.path.abspath(info["seg_map_path"])) for info in infos]))
    settings = (classes, type(loader).__name__, loader.imdecode_backend, getattr(dataset, "ignore_index", 255))
    fingerprint = _fingerprint(infos, folder, settings)
    files = _places(folder)
    for file in files:
        found = _read(file, fingerprint, (len(infos), len(classes)))
        if found is not None:
            return found
    present = _build(infos, loader, len(classes), settings[-1])
    for file in files:
        try:
            _write(file, fingerprint, present)
            break
        except OSError as error:
            print_log(f"class index not kept as {file}: {error}", logger="current", level=logging.WARNING)
    return present


def _loader(dataset: Any) -> Any:
    """A copy of the data set's own ``LoadAnnotations``, which remembers what it has seen."""
    transforms = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    own = next((step for step in transforms if isinstance(step, AnyLoadAnnotations)), None)
    return copy.copy(own) if own is not None else LoadAnnotations()


def _fingerprint(infos: list[dict[str, Any]], folder: Path, settings: tuple[Any, ...]) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for info in infos:
        path = info["seg_map_path"]
        try:
            stat = os.stat(path)
        except OSError as error:
            raise InputError(f"label map {path} cannot be read: {error.strerror}; complete the data set") from error
        name = os.path.relpath(path, folder)  # the index may move with the data
        rules = (info.get("label_map"), info.get("reduce_zero_label"))
        digest.update(repr((name, stat.st_size, stat.st_mtime_ns, rules)).encode())
    return digest.hexdigest()


def _places(folder: Path) -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gmmseg")
    name = f"{folder.name}.class_index.npz"
    return [folder.with_name(f".{name}"), cache / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}-{name}"]


def _read(file: Path, fingerprint: str, shape: tuple[int, int]) -> np.ndarray | None:
    """What the file holds, if it is whole and of these labels."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            if str(saved["fingerprint"]) != fingerprint:
                return None
            present = saved["present"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        print_log(f"class index {file} is damaged ({error}); made anew", logger="current", level=logging.WARNING)
        return None
    return present if present.shape == shape and present.dtype == bool else None


def _write(file: Path, fingerprint: str, present: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, fingerprint=np.array(fingerprint), present=present)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _build(infos: list[dict[str, Any]], loader: Any, num_classes: int, ignore_index: int) -> np.ndarray:
    def classes_in(info: dict[str, Any]) -> np.ndarray:
        path = info["seg_map_path"]
        try:
            found = np.unique(loader.transform(info)["gt_seg_map"])
        except Exception as error:  # decoders fail in many ways
            raise InputError(f"label map {path} cannot be read: {error}; replace the file") from error
        return found[(found >= 0) & (found < num_classes) & (found != ignore_index)]

    present = np.zeros((len(infos), num_classes), dtype=bool)
    print_log(f"reading {len(infos)} label maps for the class-balanced sampler, once", logger="current")
    remark = time.monotonic() + _SECONDS_BETWEEN_REMARKS
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, classes in enumerate(pool.map(classes_in, infos)):
            present[index, classes] = True
            if time.monotonic() > remark:
                print_log(f"{index + 1} of {len(infos)} label maps read", logger="current")
                remark = time.monotonic() + _SECONDS_BETWEEN_REMARKS
    return present
