"""What every tool shares: how it reads a config, and how it ends on bad input."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from _ending import end, leave

signal.signal(signal.SIGINT, leave)  # before what takes seconds to import
atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # leaving takes a moment, and its status stands
import _environment  # noqa: E402, F401
import anomaly.errors  # noqa: E402
import gmmseg.errors  # noqa: E402
from _config_options import Reads, set_options  # noqa: E402

# Remarks of mmcv and mmseg that hold for every network here and tell the user nothing.
for _remark in ("Fail to import ``MultiScaleDeformableAttention``", "Default ``avg_non_ignore`` is False"):
    warnings.filterwarnings("ignore", message=_remark)


def run(main: Callable[[], None]) -> NoReturn:
    """Call ``main`` and end the process: 0 when done, 2 on input the user can mend, 130 on Ctrl-C."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # a user has no use for our lines
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except (anomaly.errors.InputError, gmmseg.errors.InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        end(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        end(130)
    end(0)


def check_data_root(config: Any, data_root: Path | None) -> None:
    """Refuse a folder of data sets that the config, the only one to look for data, does not ask for.

    Raises:
        InputError: It is there, and the config has no ``DATA_ROOT``.
    """
    if data_root is not None and "DATA_ROOT" not in config.text:
        raise gmmseg.errors.InputError(
            f"--data-root {data_root}: expected a config that looks for its data in DATA_ROOT, and {config.filename} "
            "names its folders itself; set them there, or by --cfg-options train_dataloader.dataset.data_root=..."
        )


def read_config(
    path: Path, options: Sequence[str] = (), data_root: Path | None = None, reads: Reads | None = None
) -> Any:
    """Read an mmengine config; the configs here look for their data in the environment's ``DATA_ROOT``.

    Args:
        path: The config file.
        options: ``key=value`` settings that replace the config's, in mmengine's ``--cfg-options`` form.
        data_root: Folder that holds the data sets; sets ``DATA_ROOT``.
        reads: What the tool reads of the config, all by default; an option for anything else is refused.

    Raises:
        InputError: No such file, not a config, or an option that does not fit it or has no effect.
    """
    handler = signal.signal(signal.SIGINT, leave)
    with contextlib.redirect_stdout(io.StringIO()):
        import mmseg.datasets  # noqa: F401  prints that a package which nothing here needs is missing
        from mmengine.config import Config
    signal.signal(signal.SIGINT, handler)
    if data_root is not None:
        os.environ["DATA_ROOT"] = str(data_root)
    if not path.is_file():
        raise gmmseg.errors.InputError(f"config {path} does not exist; give a file such as those in configs/")
    logging.disable(logging.INFO)  # mmengine tells of every variable that it puts in
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is Python: it can fail in any way
        raise gmmseg.errors.InputError(f"config {path} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    return set_options(config, options, reads or Reads()) if options else config
