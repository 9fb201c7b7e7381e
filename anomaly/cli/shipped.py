"""Configs and the small network that come with the package, in a clone and installed."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from anomaly.errors import InputError

SHARE = Path("share", "gmmseg")


def shipped(name: str) -> Path:
    """Find a file of the project's ``configs/`` or ``checkpoints/``: beside the package, or where pip put it.

    Raises:
        InputError: It is in neither place.
    """
    roots = (Path(__file__).resolve().parents[2], Path(sysconfig.get_path("data"), SHARE))
    found = next((root / name for root in roots if (root / name).is_file()), None)
    if found is None:
        raise InputError(f"{name}: expected it beside the package or in {roots[1]}, found it in neither; install again")
    return found


def shipped_network() -> tuple[Path, Path]:
    """Config and checkpoint of the small network."""
    return shipped("configs/demo/segformer-gmmseg_street_scenes.py"), shipped("checkpoints/street_scenes.pth")
