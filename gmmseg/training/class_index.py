"""The classes in each image of a dataset, read from the label maps once and then kept in a file."""

from __future__ import annotations

import copy
import hashlib
import io
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
from anomaly.utils.files import write_whole

_SECONDS_BETWEEN_MESSAGES = 10


def class_index(dataset: Any) -> np.ndarray:
    """Find the classes that have at least one pixel in each label map of a dataset.

    Labels are read as in training, with the dataset's own ``LoadAnnotations`` and so with its ``reduce_zero_label``
    and label map. The result is kept as ``.NAME.class_index.npz`` beside the folder NAME that holds the label maps.
    If that cannot be written, it is kept in the folder ``gmmseg`` of the user's cache (``XDG_CACHE_HOME``). It is
    computed again when the file is damaged, when the name, size or modification time of a label map has changed, and
    when a setting that affects labels has changed.

    Args:
        dataset: An mmseg dataset, or one of mmengine's dataset wrappers. Only ``metainfo["classes"]``,
            ``get_data_info`` and its pipeline are used.

    Returns:
        Whether image f contains class c. Shape ``(F, C)``, bool.

    Raises:
        InputError: Class names or label maps are missing, or a label map cannot be read.
    """
    classes = dataset.metainfo.get("classes")
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if not classes or not infos or not all(info.get("seg_map_path") for info in infos):
        raise InputError(
            "ClassBalancedSampler needs class names and a label map for every image, found "
            f"{len(classes or ())} names, {len(infos)} images and "
            f"{sum('seg_map_path' in info for info in infos)} label maps in {type(dataset).__name__}; complete the "
            "dataset in the config, or use InfiniteSampler"
        )
    loader = _loader(dataset)
    folder = Path(os.path.commonpath([os.path.dirname(os.path.abspath(info["seg_map_path"])) for info in infos]))
    settings = (classes, type(loader).__name__, loader.imdecode_backend, getattr(dataset, "ignore_index", 255))
    fingerprint = _fingerprint(infos, folder, settings)
    files = _index_files(folder)
    for file in files:
        kept = _read(file, fingerprint, (len(infos), len(classes)))
        if kept is not None:
            return kept
    present = _build(infos, loader, len(classes), settings[-1])
    for file in files:
        try:
            _write(file, fingerprint, present)
            break
        except OSError as error:
            print_log(f"the class index cannot be kept as {file}: {error}", logger="current", level=logging.WARNING)
    return present


def _loader(dataset: Any) -> Any:
    """Copy the dataset's ``LoadAnnotations``, because it keeps state between calls."""
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
            raise InputError(
                f"label map {path} cannot be read: {error.strerror}; add the file, or remove its image"
            ) from error
        name = os.path.relpath(path, folder)  # the index may move with the data
        rules = (info.get("label_map"), info.get("reduce_zero_label"))
        digest.update(repr((name, stat.st_size, stat.st_mtime_ns, rules)).encode())
    return digest.hexdigest()


def _index_files(folder: Path) -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gmmseg")
    name = f"{folder.name}.class_index.npz"
    return [folder.with_name(f".{name}"), cache / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}-{name}"]


def _read(file: Path, fingerprint: str, shape: tuple[int, int]) -> np.ndarray | None:
    """Read the index from a file; ``None`` if it is missing, damaged or of other labels."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            if str(saved["fingerprint"]) != fingerprint:
                return None
            present = saved["present"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        print_log(
            f"the class index {file} is damaged ({error}); computed again", logger="current", level=logging.WARNING
        )
        return None
    return present if present.shape == shape and present.dtype == bool else None


def _write(file: Path, fingerprint: str, present: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez_compressed(content, fingerprint=np.array(fingerprint), present=present)
    write_whole(file, content.getvalue())


def _build(infos: list[dict[str, Any]], loader: Any, num_classes: int, ignore_index: int) -> np.ndarray:
    def classes_in(info: dict[str, Any]) -> np.ndarray:
        path = info["seg_map_path"]
        try:
            found = np.unique(loader.transform(info)["gt_seg_map"])
        except Exception as error:  # a decoder can raise anything
            raise InputError(f"label map {path} cannot be read: {error}; replace the file") from error
        return found[(found >= 0) & (found < num_classes) & (found != ignore_index)]

    present = np.zeros((len(infos), num_classes), dtype=bool)
    print_log(f"reading {len(infos)} label maps for the class-balanced sampler, once", logger="current")
    next_message = time.monotonic() + _SECONDS_BETWEEN_MESSAGES
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, classes in enumerate(pool.map(classes_in, infos)):
            present[index, classes] = True
            if time.monotonic() > next_message:
                print_log(f"{index + 1} of {len(infos)} label maps read", logger="current")
                next_message = time.monotonic() + _SECONDS_BETWEEN_MESSAGES
    return present
