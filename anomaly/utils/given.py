"""Numbers, switches and strings from users as plain Python values, and the conversion of values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from anomaly.errors import InputError


def number(value: Any) -> int | float | None:
    """Return a real number as a Python number of exactly the same value; None for anything else.

    Real numbers are ints, floats, numpy scalars, and arrays and tensors without dimensions (of torch, or any type with
    ``shape`` and ``item``). Bools, strings, dates, masked values, arrays with dimensions, and numbers that float64
    cannot represent are not.
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
    """Return a real number as a float of exactly the same value, whatever its precision.

    A threshold of float32 scores stays the same number: ``numpy.float32(0.7)`` is 0.699999988, not 0.7.

    Args:
        name: Name of the argument, for the message.
        value: The value; see :func:`number`.
        expected: What is expected, for the message.
        finite: Whether to refuse NaN and infinity.

    Raises:
        InputError: ``value`` is not a real number, cannot be represented by float64, or is not finite.
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
    """Return an integer as an int; a float with an integer value, such as ``2e9``, is accepted.

    Args:
        name: Name of the argument, for the message.
        value: The value; see :func:`number`.
        least: Smallest allowed value.
        expected: What is expected, for the message.

    Raises:
        InputError: ``value`` is not an integer, or less than ``least``.
    """
    found = number(value)
    fits = found is not None and math.isfinite(found) and found == int(found)
    if found is None or not fits or (least is not None and found < least):
        way = "" if fits else "; give a Python int"
        raise InputError(f"{name}: expected {expected}, found {_shown(value)}{way}")
    return int(found)


def switch(name: str, value: Any) -> bool:
    """Return a bool (numpy's included) as a Python bool. Raises ``InputError`` for anything else, such as ``"no"``."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: expected True or False, found {_shown(value)}; give one of them")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Return a string (numpy's included) as a str that UTF-8 can encode.

    Raises:
        InputError: It is not a string, or UTF-8 cannot encode it.
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a str, found {_shown(value)}; convert it with str(...)")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: expected a string that UTF-8 can encode, found {value!r}; rename it") from error
    return str.__str__(value)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return a word that must be one of ``allowed``. Raises ``InputError`` for anything else."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name}: expected one of {', '.join(allowed)}, found {_shown(value)}")
    return str.__str__(value)


def plain(value: Any, where: str = "") -> Any:
    """Convert a value to what JSON can represent: objects, lists, strings, numbers, bools and None.

    Numbers (see :func:`number`) keep their value; numpy bools are accepted. A path becomes a string, a dataclass an
    object of its fields, a tuple a list. NaN and infinity stay.

    Args:
        value: The value.
        where: Key of the value, for the message.

    Raises:
        InputError: The value contains something else; or a key is neither a string nor an integer, or occurs twice.
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
            f"{where or 'the record'}: expected a value that JSON can represent (a number, a string, True, False, "
            f"None, or a dict or list of these), found {_shown(value)}; convert it"
        )
    return found


def _object(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        index = None if isinstance(key, str) else number(key)
        if not isinstance(key, str) and not isinstance(index, int):
            raise InputError(
                f"{where or 'the record'}: expected keys of type str, found {_shown(key)}; convert them with str(...)"
            )
        name = str.__str__(key) if isinstance(key, str) else str(index)
        if name in found:
            raise InputError(f"{where or 'the record'}: expected every key once, found {name!r} twice; rename one")
        found[name] = plain(item, _below(where, name))
    return found


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    """A value for a message, on one short line, with its type if the text does not show it."""
    written = " ".join(repr(value).split())
    written = written if len(written) <= 60 else f"{written[:60]}..."
    return written if isinstance(value, (int, float, str)) or value is None else f"{written} ({type(value).__name__})"
