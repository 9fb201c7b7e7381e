"""The weights that a config starts from (``init_cfg``): fetched once, read safely, or one sentence on why not."""

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
    """Have mmengine's loaders, whatever the scheme of the address, read through this module while this lasts.

    mmengine's own run the code in a file that cannot be read otherwise.
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
    """Give the content of an address, from torch's cache where it is there."""
    cached = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(urlparse(url).path))
    if not cached.is_file():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached), progress=False)
        except OSError as error:  # urllib's errors are
            raise InputError(
                f"the initial weights {url} cannot be fetched ({error}); download them where there is a network and "
                f"put them in {cached.parent}, or start without: --cfg-options model.backbone.init_cfg=None"
            ) from error
    return read_safely(cached)
