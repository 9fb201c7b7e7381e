"""How a command runs as a process: what it does with warnings, bad input and Ctrl-C, and the status it ends with."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from anomaly.errors import InputError

# Remarks of mmcv and mmseg that hold for every network here and tell the user nothing.
_REMARKS = ("Fail to import ``MultiScaleDeformableAttention``", "Default ``avg_non_ignore`` is False")


def leave(*_: Any) -> NoReturn:
    """End on Ctrl-C at once: an exception amid the import of compiled code would abort the process."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def run(main: Callable[[], None]) -> NoReturn:
    """Call ``main`` and end the process: 0 when done, 2 on input the user can mend, 130 on Ctrl-C."""
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # leaving takes a moment, and its status stands
    for remark in _REMARKS:
        warnings.filterwarnings("ignore", message=remark)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # a user has no use for our lines
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        end(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        end(130)
    end(0)


def end(status: int) -> NoReturn:
    """End the process with ``status``.

    A process of many skips the interpreter's own end. A thread of gloo may let go of its last collective, and with
    it of Python objects, only when the interpreter is gone, which aborts the process and turns a run that is done
    into one that failed: https://github.com/pytorch/pytorch/pull/179291. Destroying the process group does not help
    where a wrapped network still refers to it.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(status)
    if status == 0:
        distributed.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
