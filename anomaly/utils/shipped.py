"""Configs and the small network that are shipped with the package, in a clone and installed."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("configs", "checkpoints")
"""Folders of the project that are installed with the packages."""
SHARE = Path("share", "gmmseg")
"""Where pip installs them, relative to the environment."""
DEMO = (Path("configs/demo/segformer-gmmseg_street_scenes.py"), Path("checkpoints/street_scenes.pth"))
"""Config and checkpoint of the small network."""


def find_shipped(path: str | Path) -> Path:
    """Find a file at its path, or among the files that are shipped with the package.

    Args:
        path: Any path. A file in the current folder comes first. Only paths such as ``configs/demo/NAME.py`` or
            ``checkpoints/NAME.pth`` are also searched for among the shipped files.

    Returns:
        The path of the file; ``path`` itself if there is no such file.
    """
    path = Path(path)
    if path.is_file() or path.is_absolute() or path.parts[:1] not in [(name,) for name in FOLDERS]:
        return path
    above = Path(__file__).resolve().parents[2:]  # the clone, or site-packages, and the folders above it
    places = (above[0], *(folder / SHARE for folder in above))
    return next((place / path for place in places if (place / path).is_file()), path)
