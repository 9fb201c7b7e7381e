"""The configs and the small network that come with the package, in a clone and installed."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("configs", "checkpoints")
"""Folders of the project that are installed with the packages."""
SHARE = Path("share", "gmmseg")
"""Where pip puts them, below the environment that it installs into."""
DEMO = (Path("configs/demo/segformer-gmmseg_street_scenes.py"), Path("checkpoints/street_scenes.pth"))
"""Config and checkpoint of the small network."""


def find_shipped(path: str | Path) -> Path:
    """Find a file: as its path says, or else among the files that come with the package.

    Args:
        path: Any path. Only one such as ``configs/demo/NAME.py`` or ``checkpoints/NAME.pth`` is looked for in a second
            place, and a file in the current folder comes first.

    Returns:
        Where the file is; the path itself where there is no such file.
    """
    path = Path(path)
    if path.is_file() or path.is_absolute() or path.parts[:1] not in [(name,) for name in FOLDERS]:
        return path
    above = Path(__file__).resolve().parents[2:]  # a clone, or the site-packages of an environment, and what it is in
    places = (above[0], *(folder / SHARE for folder in above))
    return next((place / path for place in places if (place / path).is_file()), path)
