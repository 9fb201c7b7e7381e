"""How a tool ends its process: with the status it means, alone or as one process of many."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, NoReturn


def leave(*_: Any) -> NoReturn:
    """End on Ctrl-C at once: an exception amid the import of compiled code would abort the process."""
    os.write(2, b"interrupted\n")
    os._exit(130)


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
