"""Where a result came from: command, code, software, and fingerprints of the inputs."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "opencv-python", "pillow", "onedl-mmsegmentation", "mmsegmentation")


def provenance(config: Path, config_text: str, checkpoint: Path) -> dict[str, Any]:
    """Collect what another person needs to repeat a run.

    Args:
        config: The network's config file.
        config_text: Its resolved text, bases and overriding options included.
        checkpoint: The network's weights.

    Returns:
        JSON-ready: ``command``, ``date`` (UTC), ``git_commit`` (``None`` outside a checkout; ends in ``+``
        if tracked files differ from it), ``versions``, and the path and SHA-256 of both inputs.
    """
    digest = hashlib.sha256()
    with checkpoint.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "config": {"path": str(config), "sha256": hashlib.sha256(config_text.encode()).hexdigest()},
        "checkpoint": {"path": str(checkpoint), "sha256": digest.hexdigest()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """Commit of the checkout this file lies in."""
    root = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    if not (root / ".git").exists():
        return None
    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
