"""A published set, fetched and unpacked where the catalogue looks for it."""

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
    """Fetch a set's archives into ``data_root/downloads``, and unpack them into the first folder it is looked for in.

    What is there already, whole and with the published checksum, is not fetched again; the archives stay.

    Args:
        evaluation_set: An entry of the catalogue.
        data_root: Folder that holds the sets.
        on_file: Called before each archive; gives what :func:`anomaly.datasets.download.fetch` is to call on progress.

    Returns:
        The set's folder.

    Raises:
        InputError: The set has no archive that can be fetched without an account, its folder holds what an archive
            holds too, or whatever fetching and unpacking find wrong.
    """
    folder = data_root / evaluation_set.folders[0]
    if not evaluation_set.downloads:
        raise InputError(
            f"{evaluation_set.name}: no archive can be fetched without an account or a click; "
            f"{evaluation_set.obtain or 'get it from ' + evaluation_set.home} and put it in {folder}"
        )
    for download in evaluation_set.downloads:
        archive = fetch(download, data_root / "downloads", on_progress=on_file(download) if on_file else None)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as stage:
            _move_in(unpack(archive, Path(stage) / "new"), folder, archive)
    return folder


def _move_in(unpacked: Path, folder: Path, archive: Path) -> None:
    """Move what was unpacked into a folder that may hold another archive's content, all or nothing."""
    entries = sorted(unpacked.iterdir())
    if there := [entry.name for entry in entries if (folder / entry.name).exists()]:
        raise InputError(
            f"{folder}: expected nothing of what {archive.name} holds, found {there[0]}; "
            "the set seems to be there: check it with anomaly data check, or move it away"
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
