"""Names that tell things apart: two things of one name would silently share one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

from anomaly.errors import InputError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


_T = TypeVar("_T", bound=Named)


def check_distinct(names: Iterable[str], what: str, remedy: str = "give each a name of its own") -> None:
    """Refuse names that occur more than once.

    Args:
        names: The names.
        what: What they are names of, in the plural.
        remedy: What the user can do.

    Raises:
        InputError: A name occurs more than once.
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"expected {what} of different names, found {name!r} {times} times; {remedy}")


def by_name(items: Iterable[_T], what: str) -> dict[str, _T]:
    """Give a table of items by their names, in their order.

    Args:
        items: The items.
        what: What they are, in the plural.

    Raises:
        InputError: Two items have one name.
    """
    found = list(items)
    check_distinct((item.name for item in found), what)
    return {item.name: item for item in found}
