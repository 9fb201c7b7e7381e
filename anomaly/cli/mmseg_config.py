"""How the commands read a config of mmengine: its data, its options, and one sentence where it cannot be read."""

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
    """Refuse a folder of data sets that the config, the only one to look for data, does not ask for.

    Raises:
        InputError: It is there, and the config has no ``DATA_ROOT``.
    """
    if data_root is not None and "DATA_ROOT" not in config.text:
        raise InputError(
            f"--data-root {data_root}: expected a config that looks for its data in DATA_ROOT, and {config.filename} "
            "names its folders itself; set them there, or by --cfg-options train_dataloader.dataset.data_root=..."
        )


def read_config(
    path: Path, options: Sequence[str] = (), data_root: Path | None = None, reads: Reads | None = None
) -> Any:
    """Read an mmengine config; the configs here look for their data in the environment's ``DATA_ROOT``.

    Args:
        path: The file, or one of the configs that come with the package, such as ``configs/demo/NAME.py``.
        options: ``key=value`` settings that replace the config's, in mmengine's ``--cfg-options`` form.
        data_root: Folder that holds the data sets; sets ``DATA_ROOT``.
        reads: What the tool reads of the config, all by default; an option for anything else is refused.

    Raises:
        InputError: No such file, not a config, or an option that does not fit it or has no effect.
    """
    handler = signal.signal(signal.SIGINT, leave)  # the import takes seconds
    with needs("mmseg"):
        from anomaly.models import mmseg
    signal.signal(signal.SIGINT, handler)
    if data_root is not None:
        os.environ["DATA_ROOT"] = str(data_root)
    config = mmseg.read_config(path)
    return set_options(config, options, reads or Reads()) if options else config
