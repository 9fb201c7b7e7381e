"""Functions with parameters in command-line notation, such as ``smooth:sigma=2`` or ``gen:gamma=0.2:top=10``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from anomaly.errors import InputError


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def _names(text: str) -> tuple[str, ...]:
    if not (names := tuple(part for part in text.split("+") if part)):
        raise ValueError(text)
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+"))


def _existing(text: str) -> Path:
    if not (path := Path(text)).exists():
        raise ValueError(text)
    return path


def _yes_or_no(text: str) -> bool:
    return ("no", "yes").index(text) == 1


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (_number, "a number"),
    bool: (_yes_or_no, "yes or no"),
    str: (str, "a word"),
    Path: (_existing, "an existing file or folder"),
    tuple[str, ...]: (_names, "names joined by +"),
    tuple[int, ...]: (_numbers, "whole numbers joined by +"),
}


def parse_call(text: str, kind: str) -> tuple[str, dict[str, str]]:
    """Split ``NAME:KEY=VALUE:KEY=VALUE`` into the name and a dict.

    Args:
        text: The text.
        kind: What it names, for the message.

    Raises:
        InputError: The text has another form, or a key twice.
    """
    name, *pairs = text.split(":")
    words: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value) or key in words:
            raise InputError(f"{kind} {text!r}: expected NAME:KEY=VALUE, each key once, found {pair!r}")
        words[key] = value
    return name, words


def bind(function: Callable[..., Any], words: dict[str, str], where: str) -> dict[str, Any]:
    """Convert the values of keyword-only parameters to their types.

    Types are int, float (finite), bool (``yes`` or ``no``), str, Path (of an existing file or folder), and
    ``tuple[str, ...]`` and ``tuple[int, ...]`` (names or numbers joined by +). Parameters of other types are not
    available. The function itself checks ranges.

    Args:
        function: The function.
        words: Values as text, by parameter name.
        where: What is being parsed, for the message.

    Raises:
        InputError: A parameter does not exist, a value has another type, or a required parameter is missing.
    """
    hints = get_type_hints(inspect.unwrap(function))
    known = {
        name: each
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is inspect.Parameter.KEYWORD_ONLY and hints.get(name) in _READERS
    }
    values = {}
    for key, word in words.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(f"{where}: unknown parameter {key!r}: {hint}it has {', '.join(known) or 'none'}")
        read, expected = _READERS[hints[key]]
        try:
            values[key] = read(word)
        except ValueError as error:
            raise InputError(f"{where}: expected {expected} for {key}, found {word!r}") from error
    for name, each in known.items():
        if each.default is inspect.Parameter.empty and name not in values:
            raise InputError(f"{where}: expected a value for {name}, found none; write :{name}=VALUE")
    return values
