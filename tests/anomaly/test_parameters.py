"""How functions with parameters are read from a command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.errors import InputError
from anomaly.utils.parameters import bind, parse_call


def example(
    score: np.ndarray,
    *,
    count: int = 1,
    scale: float = 1.0,
    flip: bool = False,
    kind: str = "a",
    names: tuple[str, ...] = (),
    table: np.ndarray | None = None,
) -> None:
    """Every type that is read, and one that is not."""


def needs_a_path(*, mask: Path) -> None:
    """One parameter, without default."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("energy", ("energy", {})),
        ("energy:temperature=2", ("energy", {"temperature": "2"})),
        ("a:x=1:y=b+c", ("a", {"x": "1", "y": "b+c"})),
        ("a:mask=x=y.png", ("a", {"mask": "x=y.png"})),
    ],
)
def test_a_call_is_a_name_and_values(text, expected):
    assert parse_call(text, "score") == expected


word = st.text("abcxyz019_.+-/", min_size=1)


@given(word, st.dictionaries(word, word))
def test_what_is_written_is_read(name, values):
    assert parse_call(":".join([name, *(f"{key}={value}" for key, value in values.items())]), "step") == (name, values)


@pytest.mark.parametrize(
    ("text", "pair"), [("a:", ""), ("a:x", "x"), ("a:x=", "x="), ("a:=1", "=1"), ("a:x=1:x=2", "x=2")]
)
def test_what_is_no_call_is_refused(text, pair):
    message = f"score {text!r}: expected NAME:KEY=VALUE, each key once, found {pair!r}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        parse_call(text, "score")


def test_values_are_of_the_types_of_their_parameters(tmp_path):
    words = {"count": "-3", "scale": "1e-2", "flip": "yes", "kind": "b", "names": "sky+road"}
    found = bind(example, words, "step example")
    assert found == {"count": -3, "scale": 0.01, "flip": True, "kind": "b", "names": ("sky", "road")}
    assert [type(value) for value in found.values()] == [int, float, bool, str, tuple]
    assert bind(example, {"flip": "no"}, "step example") == {"flip": False}
    assert bind(example, {}, "step example") == {}
    assert bind(needs_a_path, {"mask": str(tmp_path)}, "step") == {"mask": tmp_path}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("count", "2.5", "a whole number"),
        ("scale", "wide", "a number"),
        ("scale", "nan", "a number"),
        ("scale", "-inf", "a number"),
        ("flip", "True", "yes or no"),
        ("names", "+", "names joined by +"),
    ],
)
def test_a_value_of_another_type_is_refused(key, value, expected):
    message = f"step example: expected {expected} for {key}, found {value!r}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        bind(example, {key: value}, "step example")


@pytest.mark.parametrize(("key", "hint"), [("scales", "did you mean 'scale'? "), ("q", "")])
def test_an_unknown_parameter_lists_all_with_the_closest(key, hint):
    message = f"step example: unknown parameter {key!r}: {hint}it has count, scale, flip, kind, names"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        bind(example, {key: "1"}, "step example")


@pytest.mark.parametrize("key", ["score", "table"])
def test_what_is_no_keyword_or_cannot_be_written_is_no_parameter(key):
    with pytest.raises(InputError, match=f"^step example: unknown parameter '{key}'"):
        bind(example, {key: "1"}, "step example")


def test_paths_exist_and_what_has_no_default_is_given(tmp_path):
    with pytest.raises(InputError, match=r"^step: expected an existing file or folder for mask, found '.*no.png'$"):
        bind(needs_a_path, {"mask": str(tmp_path / "no.png")}, "step")
    with pytest.raises(InputError, match=r"^step: expected a value for mask, found none; write :mask=VALUE$"):
        bind(needs_a_path, {}, "step")
