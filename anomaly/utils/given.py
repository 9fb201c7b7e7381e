"""What a user gives for a number, a switch or a text, as Python's own; and what JSON can hold of anything given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from anomaly.errors import InputError


def number(value: Any) -> int | float | None:
    """Give a real number as Python's own, exactly; None where it is no such number.

    Real numbers are ints and floats, numpy's scalars, and arrays and tensors of no dimension (of torch or whatever else
    has ``shape`` and ``item``). Truth values, texts, dates, masked values and arrays of one element are none, nor is
    what a float64 cannot hold.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        if isinstance(value, np.ma.MaskedArray) or getattr(getattr(value, "dtype", None), "kind", "f") not in "iuf":
            return None
        try:
            value = value.item()
        except (RuntimeError, TypeError, ValueError):  # a tensor without data
            return None
    if isinstance(value, np.longdouble):
        return float(value) if float(value) == value or math.isnan(float(value)) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else None


def real(name: str, value: Any, expected: str = "a number", *, finite: bool = False) -> float:
    """Give a real number as a float of the same value, whatever precision it came in.

    So a threshold of float32 scores stays that very number: ``numpy.float32(0.7)`` is 0.699999988, not 0.7.

    Args:
        name: Of the argument, for the message.
        value: See :func:`number`.
        expected: What it is, for the message.
        finite: Whether NaN and infinity are refused.

    Raises:
        InputError: It is no real number, one that no float64 equals, or not finite.
    """
    found = number(value)
    try:
        exact = found is not None and (float(found) == found or math.isnan(found))
    except OverflowError:
        exact = False
    if found is None or not exact or (finite and not math.isfinite(found)):
        way = "" if exact else "; give a Python float"
        raise InputError(f"{name}: expected {expected}, found {_shown(value)}{way}")
    return float(found)


def whole(name: str, value: Any, least: int | None = None, expected: str = "a whole number") -> int:
    """Give a whole number as an int; a float that is one, such as ``2e9``, counts as one.

    Args:
        name: Of the argument, for the message.
        value: See :func:`number`.
        least: The smallest that is allowed.
        expected: What it is, for the message.

    Raises:
        InputError: It is no whole number, or less than ``least``.
    """
    found = number(value)
    fits = found is not None and math.isfinite(found) and found == int(found)
    if found is None or not fits or (least is not None and found < least):
        way = "" if fits else "; give a Python int"
        raise InputError(f"{name}: expected {expected}, found {_shown(value)}{way}")
    return int(found)


def switch(name: str, value: Any) -> bool:
    """Give a truth value as a bool; of numpy's too. Raises ``InputError`` for anything else, such as ``"no"``."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: expected True or False, found {_shown(value)}; give one of them")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Give a text as a str that UTF-8 can hold; of numpy's too.

    Raises:
        InputError: It is something else, or a name of bytes that are no UTF-8.
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a str, found {_shown(value)}; give str(...) of it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: expected a text that UTF-8 can hold, found {value!r}; rename it") from error
    return str.__str__(value)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Give one of some words. Raises ``InputError`` for anything else."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name}: expected one of {', '.join(allowed)}, found {_shown(value)}")
    return str.__str__(value)


def plain(value: Any, where: str = "") -> Any:
    """Give what JSON can hold of a value: objects, lists, texts, numbers, truth values and None.

    Numbers are those of :func:`number`, and keep their value; truth values may be numpy's too. A path becomes its text,
    a dataclass an object of its fields, a tuple a list. NaN and infinity stay.

    Args:
        value: To be written.
        where: Its own key, for the message.

    Raises:
        InputError: Something else is in it, or a key that is no text, a whole number included only where no other key
            has its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, PurePath)):
        return str.__str__(value) if isinstance(value, str) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name), _below(where, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return _object(value, where)
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, np.bool_) or (isinstance(value, np.ndarray) and value.shape == () and value.dtype == bool):
        return bool(value)
    found = number(value)
    if found is None:
        raise InputError(
            f"{where or 'the record'}: expected what JSON can hold (a number, a text, True, False, None, or a dict or "
            f"a list of these), found {_shown(value)}; give it as one of them"
        )
    return found


def _object(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        index = None if isinstance(key, str) else number(key)
        if not isinstance(key, str) and not isinstance(index, int):
            raise InputError(f"{where or 'the record'}: expected keys of type str, found {_shown(key)}; give str(...)")
        name = str.__str__(key) if isinstance(key, str) else str(index)
        if name in found:
            raise InputError(f"{where or 'the record'}: expected every key once, found {name!r} twice; rename one")
        found[name] = plain(item, _below(where, name))
    return found


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    """A value for a message, with its type where that is not told by how it is written; on one line, not too long."""
    written = " ".join(repr(value).split())
    written = written if len(written) <= 60 else f"{written[:60]}..."
    return written if isinstance(value, (int, float, str)) or value is None else f"{written} ({type(value).__name__})"
