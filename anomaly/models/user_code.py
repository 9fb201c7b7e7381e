"""Errors of the user's own functions and networks, as one sentence that says where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anomaly.errors import InputError


@contextmanager
def user_code(what: str, advice: str = "correct that code") -> Iterator[None]:
    """Turn any error in the context into an ``InputError``; running out of memory stays as it is.

    Args:
        what: What is called and with what, for the message.
        advice: What the user can do, for the message.

    Raises:
        InputError: The code in the context has failed.
    """
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # anything can happen in it
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise InputError(f"{what} failed with {type(error).__name__}: {reason}; {advice}") from error
