"""Path and checksum of files, as records of results name them."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from pathlib import Path


def file_record(path: Path, content: str | None = None) -> dict[str, str]:
    """Path and SHA-256 of a file.

    Args:
        path: The file.
        content: Text to hash in place of the file's content.
    """
    digest = hashlib.sha256() if content is None else hashlib.sha256(content.encode())
    if content is None:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return {"path": str(path), "sha256": digest.hexdigest()}


def config_record(path: Path, text: str) -> dict[str, str]:
    """Path of a config, and SHA-256 of its content with bases and options, independent of the data folder.

    Args:
        path: The config file.
        text: The complete config as Python source; line breaks do not matter.
    """
    return file_record(path, portable(ast.unparse(ast.parse(text))))


def portable(text: str) -> str:
    """Replace the folder of the datasets (``DATA_ROOT``) in the text of a config by ``{{$DATA_ROOT:data}}``."""
    root = os.environ.get("DATA_ROOT", "data").rstrip("/") or "/"
    begins = "/" if root == "/" else f"{re.escape(repr(root)[1:-1])}/+"
    return re.sub(rf"(?<=['\"]){begins}", "{{$DATA_ROOT:data}}/", text)
