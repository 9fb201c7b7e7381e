"""Initial weights of a config (``init_cfg``): downloaded once and read without running code from the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch

from anomaly.errors import InputError
from anomaly.models.checkpoints import read_safely


@contextmanager
def initial_weights_read_safely() -> Iterator[None]:
    """Replace mmengine's weight loaders by those of this module while the context is active, for any kind of URL.

    mmengine's own loaders run code from a file that cannot be read safely.
    """
    names: dict[str, Callable[..., Any]] = {"_safe_torch_load": _read_local, "load_url": _fetch}
    own = {name: getattr(mmengine_checkpoint, name) for name in names}
    try:
        for name, loader in names.items():
            setattr(mmengine_checkpoint, name, loader)
        yield
    finally:
        for name, loader in own.items():
            setattr(mmengine_checkpoint, name, loader)


def _read_local(file: str, **_: Any) -> Any:
    return read_safely(file)


def _fetch(url: str, **_: Any) -> Any:
    """Read the weights at a URL, from torch's cache if they are there."""
    cached = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(urlparse(url).path))
    if not cached.is_file():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached), progress=False)
        except OSError as error:  # includes the errors of urllib
            raise InputError(
                f"the initial weights {url} cannot be downloaded ({error}); put the file in {cached.parent}, or train "
                "without them: --cfg-options model.backbone.init_cfg=None"
            ) from error
    return read_safely(cached)
