"""Functions that are imported on first use, so that a table of them costs no imports."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

from anomaly.utils.optional import needs


class LazyFunction:
    """A function that is imported when it is first called, or when its signature is read.

    Args:
        place: ``"package.module:function"``.
        extra: Extra of this package that the module needs, such as ``"torch"``.

    Raises:
        InputError: On first use, if the extra is not installed.
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
