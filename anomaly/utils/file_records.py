"""Files as records of results name them: path and checksum, wherever the data lie."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from pathlib import Path


def file_record(path: Path, content: str | None = None) -> dict[str, str]:
    """Path and SHA-256 of a file, or of ``content`` that stands for it."""
    digest = hashlib.sha256() if content is None else hashlib.sha256(content.encode())
    if content is None:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return {"path": str(path), "sha256": digest.hexdigest()}


def config_record(path: Path, text: str) -> dict[str, str]:
    """Path of a config, and SHA-256 of what it says with bases and options, wherever the data are.

    Args:
        path: The config file.
        text: All of the config as Python source; how its lines are wrapped does not count.
    """
    return file_record(path, portable(ast.unparse(ast.parse(text))))


def portable(text: str) -> str:
    """Write ``{{$DATA_ROOT:data}}`` in a config's text for the folder of the data sets, which ``DATA_ROOT`` names."""
    root = os.environ.get("DATA_ROOT", "data").rstrip("/") or "/"
    begins = "/" if root == "/" else f"{re.escape(repr(root)[1:-1])}/+"
    return re.sub(rf"(?<=['\"]){begins}", "{{$DATA_ROOT:data}}/", text)
