"""Check that two metrics belong to the same evaluation before they are merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomaly.errors import InputError


def check_same_settings(kind: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Check that two parts have the same settings.

    Args:
        kind: Kind of metrics, for the message.
        mine: Settings of the part that the other is merged into, by name.
        theirs: The same settings of the other part.

    Raises:
        InputError: A setting differs.
    """
    for setting, value in mine.items():
        if not _same(value, theirs[setting]):
            raise InputError(
                f"cannot merge {kind} with {setting} {theirs[setting]!r} into {kind} with {setting} {value!r}; merge "
                "only parts of the same evaluation"
            )


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are equal; NaN equals NaN."""
    return bool(one == other or (one != one and other != other))
