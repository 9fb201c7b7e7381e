"""Folders of the Hugging Face hub: downloaded once, read without network where they are there."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly.errors import InputError

TEXTS = ("*.json", "*.txt", "*.model")
SAFETENSORS = ("model*.safetensors",)
PICKLED = ("pytorch_model*.bin",)


HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def local_folder(
    name: str,
    *,
    weights: bool = True,
    allow_pickle: bool = False,
    revision: str | None = None,
    what: str = "model",
    use: str = "pass --model FOLDER",
) -> Path:
    """Return the folder of a model: the one of that name here, or that of a hub id, downloaded if it is not cached.

    Args:
        name: Path of a folder, or a hub id.
        weights: Whether the weights are needed too.
        allow_pickle: Whether pickled weights are downloaded too.
        revision: Branch, tag or commit on the hub. Default: the main branch.
        what: What has this name, for the message.
        use: How to name the folder instead, for the message.

    Raises:
        InputError: There is no such folder, and the hub cannot be reached or has no such model.
    """
    if Path(name).is_dir():
        return Path(name)
    if HUB_ID.fullmatch(name) is None:
        raise InputError(
            f"{what} {name}: expected a folder, or a hub id such as organisation/name, found neither; check it"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    patterns = [*TEXTS, *(SAFETENSORS if weights else ()), *(PICKLED if weights and allow_pickle else ())]
    try:
        with quiet_transformers():
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (OSError, HfHubHTTPError, HFValidationError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(
            f"{what} {name}: expected a folder here or an id of the Hugging Face hub that can be downloaded, found "
            f"neither ({type(error).__name__}: {reason}); where the hub can be reached, run `hf download {name} "
            f"--local-dir FOLDER`, copy the folder here, and {use}"
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress progress bars and warnings of transformers and of its hub client while the context lasts."""
    from transformers.utils import logging as library

    hub = logging.getLogger("huggingface_hub")
    bar, levels = library.is_progress_bar_enabled(), (library.get_verbosity(), hub.level)
    library.disable_progress_bar()  # of the hub client too
    library.set_verbosity_error()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.set_verbosity(levels[0])
        hub.setLevel(levels[1])
        if bar:
            library.enable_progress_bar()
