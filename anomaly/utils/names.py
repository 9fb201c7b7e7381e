"""Checks that names are distinct: two things with the same name would silently share one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

from anomaly.errors import InputError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The name."""
        ...


_T = TypeVar("_T", bound=Named)


def check_distinct(names: Iterable[str], what: str, remedy: str = "give each a name of its own") -> None:
    """Check that names are distinct.

    Args:
        names: The names.
        what: What they name, in the plural, for the message.
        remedy: What the user can do, for the message.

    Raises:
        InputError: A name occurs more than once.
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"expected {what} of different names, found {name!r} {times} times; {remedy}")


def by_name(items: Iterable[_T], what: str) -> dict[str, _T]:
    """Make a dict of items by their names, in their order.

    Args:
        items: The items.
        what: What they are, in the plural, for the message.

    Raises:
        InputError: Two items have the same name.
    """
    found = list(items)
    check_distinct((item.name for item in found), what)
    return {item.name: item for item in found}
