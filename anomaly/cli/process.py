"""A command as a process: warnings, invalid input, Ctrl-C and the exit status."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from anomaly.errors import InputError

# Messages of mmcv and mmseg that apply to every network here and do not help the user.
_REMARKS = ("Fail to import ``MultiScaleDeformableAttention``", "Default ``avg_non_ignore`` is False")


def speaks_first() -> bool:
    """Whether this process prints an error: of several processes, the first one that fails. A launcher replaces it."""
    return True


def leave(*_: Any) -> NoReturn:
    """Exit at once on Ctrl-C: an exception during the import of compiled code would abort the process."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def run(main: Callable[[], None]) -> NoReturn:
    """Call ``main`` and exit: 0 on success, 2 on input that the user can correct, 130 on Ctrl-C."""
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Ctrl-C during exit must not change the status
    for remark in _REMARKS:
        warnings.filterwarnings("ignore", message=remark)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # without the source line
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except InputError as error:
        if speaks_first():
            print(f"error: {error}", file=sys.stderr)
        end(2)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        end(error.code if isinstance(error.code, int) else int(error.code is not None))
    except Exception:
        traceback.print_exc()
        end(1)
    except KeyboardInterrupt:
        if speaks_first():
            print("interrupted", file=sys.stderr)
        end(130)
    end(0)


def end(status: int) -> NoReturn:
    """Exit with ``status``.

    A distributed process skips the interpreter's own shutdown: a thread of gloo may release its last collective, and
    with it Python objects, after the interpreter is gone. This aborts the process and turns a finished run into a
    failed one: https://github.com/pytorch/pytorch/pull/179291. Destroying the process group does not help while a
    wrapped network still refers to it.
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
