"""Listing of files below a folder; links are followed, and unreadable entries are errors."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

from anomaly.errors import InputError


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder, at any depth, in the order of their paths.

    Links are followed. A folder that can be reached in several ways is listed once, preferably under its own path, and
    a warning names the link; this also ends cycles. Hidden files and folders are skipped.

    Args:
        folder: Folder to search.

    Returns:
        Paths that begin with ``folder``.

    Raises:
        InputError: The folder does not exist, a folder cannot be listed, or a link leads to nothing.
    """
    if not os.path.isdir(folder):
        kind = "a file" if os.path.exists(folder) else "none"
        raise InputError(f"{folder}: expected a folder, found {kind}; check the path")
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    links = [folder]
    while links:  # folders behind links may hold further links
        link = links.pop(0)
        folders = [link]
        while folders:
            place = folders.pop()
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                warnings.warn(f"{place} leads to {place.resolve()}, whose files count once", stacklevel=2)
                continue
            seen.add((status.st_dev, status.st_ino))
            for path in listed(place):
                if not is_folder(path):
                    files.append(path)
                elif path.is_symlink():
                    links.append(path)
                else:
                    folders.append(path)
        links.sort()
    return sorted(files)


def listed(folder: Path, hidden: bool = False) -> list[Path]:
    """List the entries of a folder in the order of names.

    Args:
        folder: Folder to list.
        hidden: Include hidden files and folders.

    Raises:
        InputError: The folder cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: expected a folder that can be listed, found one that cannot ({error.strerror}); allow reading "
            "it, or move it away"
        ) from error
    return [folder / name for name in sorted(names) if hidden or not name.startswith(".")]


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; otherwise it is a file.

    Raises:
        InputError: The path is neither, is a link to nothing, or cannot be accessed.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        kind = "a link that leads to nothing" if path.is_symlink() else "none"
    except OSError as error:
        kind = f"one that cannot be accessed ({error.strerror})"
    else:
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            return stat.S_ISDIR(mode)
        kind = "neither"
    raise InputError(f"{path}: expected a file or a folder, found {kind}; restore it, or remove it")
