"""Functions of tables, imported when they are first needed: a table of names costs no import of what they name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

from anomaly.utils.optional import needs


class LazyFunction:
    """A function of a module, imported when it is first called or its signature is read.

    Args:
        place: ``"package.module:function"``.
        extra: The extra of this package that the module needs, such as ``"torch"``.

    Raises:
        InputError: When it is needed, and the extra is not installed.
    """

    def __init__(self, place: str, extra: str | None = None) -> None:
        self._place, self._extra = place, extra

    @cached_property
    def __wrapped__(self) -> Callable[..., Any]:  # where ``inspect.signature`` looks
        module, _, name = self._place.partition(":")
        with nullcontext() if self._extra is None else needs(self._extra):
            found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*arguments, **named)

    def __repr__(self) -> str:
        return f"<function {self._place}>"
