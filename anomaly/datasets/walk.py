"""Files below a folder, as everything here finds them: links are followed, and nothing is passed over in silence."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

from anomaly.errors import InputError


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder, at any depth, in the order of their paths.

    Links are followed. A folder that several ways lead to counts once, under its own path before that of a link, which
    is warned of; so a link to a folder above ends there. Hidden files and hidden folders do not count.

    Args:
        folder: Where to look.

    Returns:
        Paths that begin with ``folder``.

    Raises:
        InputError: There is no such folder, it or one below it cannot be listed, or a link leads to nothing.
    """
    if not os.path.isdir(folder):
        found_instead = "a file" if os.path.exists(folder) else "none"
        raise InputError(f"{folder}: expected a folder, found {found_instead}; check the path")
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    links = [folder]
    while links:  # those at the front first; what they lead to may hold further ones
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
                    found.append(path)
                elif path.is_symlink():
                    links.append(path)
                else:
                    folders.append(path)
        links.sort()
    return sorted(found)


def listed(folder: Path, hidden: bool = False) -> list[Path]:
    """List what is in a folder, in the order of names; hidden files and folders only where they are asked for.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: expected a folder that can be listed, found one that cannot ({error.strerror}); allow reading "
            "it, or take it out"
        ) from error
    return [folder / name for name in sorted(names) if hidden or not name.startswith(".")]


def is_folder(path: Path) -> bool:
    """Whether it is a folder; else it is a file.

    Raises:
        InputError: It is neither: a link to nothing, or something that cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        found = "a link that leads to nothing" if path.is_symlink() else "none"
    except OSError as error:
        found = f"what cannot be looked at ({error.strerror})"
    else:
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            return stat.S_ISDIR(mode)
        found = "neither"
    raise InputError(f"{path}: expected a file or a folder, found {found}; restore what it was, or take it out")
