"""Packages that only parts need: a missing one is named with the command that installs it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import contextmanager

from anomaly.errors import InputError

EXTRAS = {"torch": ("torch",), "mmseg": ("torch", "mmengine", "mmcv", "mmseg")}
"""Top-level modules that an extra of the package installs, by the extra's name."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import what an extra installs, in the ``with`` block.

    Raises:
        InputError: It is not installed; the message has the command.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # mmseg prints that a package which nothing needs is missing
            yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[extra]:
            raise
        raise InputError(
            f'this needs {error.name}, which is not installed here; install it with: pip install ".[{extra}]" in a '
            "clone of the project"
        ) from error
