"""Download a published dataset and unpack it where the catalogue expects it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from anomaly.datasets.download import Download, Progress, fetch
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.unpack import unpack
from anomaly.errors import InputError


def obtain(
    evaluation_set: CatalogEntry,
    data_root: Path,
    *,
    on_file: Callable[[Download], Progress | None] | None = None,
) -> Path:
    """Download the archives of a dataset into ``data_root/downloads``, and unpack them into its folder.

    Complete archives with the published checksum are not downloaded again. The archives are kept.

    Args:
        evaluation_set: An entry of the catalogue.
        data_root: Folder that holds the datasets.
        on_file: Called before each archive; returns the function that :func:`anomaly.datasets.download.fetch` calls on
            progress.

    Returns:
        Folder of the dataset, the first of the entry's ``folders``.

    Raises:
        InputError: No archive can be downloaded without an account, the folder already holds a file or folder of an
            archive, or downloading or unpacking fails.
    """
    folder = data_root / evaluation_set.folders[0]
    if not evaluation_set.downloads:
        raise InputError(
            f"{evaluation_set.name}: no archive can be downloaded without an account or a click; "
            f"{evaluation_set.obtain or 'get it from ' + evaluation_set.home} and put it in {folder}"
        )
    for download in evaluation_set.downloads:
        archive = fetch(download, data_root / "downloads", on_progress=on_file(download) if on_file else None)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as stage:
            _move_in(unpack(archive, Path(stage) / "new"), folder, archive)
    return folder


def _move_in(unpacked: Path, folder: Path, archive: Path) -> None:
    """Move unpacked files, all or none, into a folder that may hold the content of another archive."""
    entries = sorted(unpacked.iterdir())
    if there := [entry.name for entry in entries if (folder / entry.name).exists()]:
        raise InputError(
            f"{folder}: expected no file of {archive.name}, found {there[0]}; the dataset seems to be there already, "
            "check it with anomaly data check, or move it away"
        )
    moved: list[Path] = []
    try:
        for entry in entries:
            os.replace(entry, folder / entry.name)
            moved.append(folder / entry.name)
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
