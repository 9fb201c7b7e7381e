"""Reading mmengine configs in the commands: data root, options, and one-sentence errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.config_options import Reads, set_options
from anomaly.cli.process import leave
from anomaly.errors import InputError
from anomaly.utils.optional import needs


def check_data_root(config: Any, data_root: Path | None) -> None:
    """Refuse ``--data-root`` if the config does not use it.

    Raises:
        InputError: The option is given, and the config does not read ``DATA_ROOT``.
    """
    if data_root is not None and "DATA_ROOT" not in config.text:
        raise InputError(
            f"--data-root {data_root}: expected a config that finds its data below DATA_ROOT, but {config.filename} "
            "names "
            "its folders itself; set them there, or with --cfg-options train_dataloader.dataset.data_root=..."
        )


def read_config(
    path: Path, options: Sequence[str] = (), data_root: Path | None = None, reads: Reads | None = None
) -> Any:
    """Read an mmengine config.

    The configs of this project look for their data below the environment variable ``DATA_ROOT``.

    Args:
        path: The file, or a config that is shipped with the package, such as ``configs/demo/NAME.py``.
        options: Settings ``key=value`` that override the config's, as in mmengine's ``--cfg-options``.
        data_root: Folder that holds the datasets; sets ``DATA_ROOT``.
        reads: The parts of the config that the command reads; by default all. An option for another part is refused.

    Raises:
        InputError: The file is missing or is not a config, or an option does not fit it or has no effect.
    """
    handler = signal.signal(signal.SIGINT, leave)  # the import takes seconds
    with needs("mmseg"):
        from anomaly.models import mmseg
    signal.signal(signal.SIGINT, handler)
    if data_root is not None:
        os.environ["DATA_ROOT"] = str(data_root)
    config = mmseg.read_config(path)
    return set_options(config, options, reads or Reads()) if options else config
