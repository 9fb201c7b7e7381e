"""What may be merged: parts of one evaluation only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomaly.errors import InputError


def check_same_settings(kind: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse to merge what was measured differently.

    Args:
        kind: What is to be merged, for the message.
        mine: Setting -> value of the part that takes over the other.
        theirs: The same settings of the other part.

    Raises:
        InputError: A setting differs.
    """
    for setting, value in mine.items():
        if theirs[setting] != value:
            raise InputError(
                f"cannot merge {kind} of {setting} {theirs[setting]!r} into {kind} of {setting} {value!r}; merge only "
                "parts of the same evaluation"
            )
