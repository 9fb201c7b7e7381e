"""Origin of a result: command, code, software versions, and checksums of the inputs."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "opencv-python", "pillow", "onedl-mmsegmentation", "mmsegmentation", "transformers")


def provenance(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Collect what is needed to repeat a run.

    Args:
        inputs: Records of the inputs by name, such as :func:`anomaly.utils.file_records.file_record` makes.

    Returns:
        A record that JSON can hold: ``command``, ``date`` (UTC), ``git_commit`` (None outside a checkout; ends in ``+``
        if tracked files differ from it), ``versions``, ``machine``, and the inputs.
    """
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        **inputs,
    }


def _processor() -> str:
    """Name of the processor, as far as the system provides it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """Commit of the checkout that contains this file."""
    root = Path(__file__).resolve().parents[2]

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
