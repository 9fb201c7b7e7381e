"""Command-line parsing: help that reads like documentation, and no argument that is silently ignored."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import re
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from anomaly.errors import InputError


class CommandParser(argparse.ArgumentParser):
    """argparse's parser with three differences, for subcommands too.

    The parsed arguments have ``given``: the ``dest`` of every argument that was typed, positional arguments and flags
    included. An option given twice is an error, where argparse ignores the first. Every notation that ``float`` reads
    is a value, where argparse treats ``-5e-06`` as an option.
    """

    _given: set[str]
    renamed: Mapping[str, str] = {}
    """New names of options that were renamed, by the old name; old names still work, with a note."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, and set ``given``.

        Raises:
            InputError: An option is given twice.
        """
        self._given = set()
        args = [self._renamed(word) for word in (sys.argv[1:] if args is None else args)]
        parsed, rest = super().parse_known_args(args, namespace)
        parsed.given = self._given | getattr(parsed, "given", set())  # a subcommand has already added its own
        return parsed, rest

    def _renamed(self, word: str) -> str:
        old, equals, value = word.partition("=")
        if old not in self.renamed:
            return word
        print(f"note: {old} is now called {self.renamed[old]}", file=sys.stderr)
        return f"{self.renamed[old]}{equals}{value}"

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.dest in self._given:
            raise InputError(
                f"{max(action.option_strings, key=len)}: expected it once, found it twice; give it once"
                + ("" if action.nargs in (None, 0, "?") else ", with all its values")
            )
        if action.option_strings or arg_strings:  # an optional positional argument that is omitted has no words
            self._given.add(action.dest)
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Raise one sentence instead of printing the usage."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        close = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"{message}; {hint}{self.prog} --help lists the options")

    def _parse_optional(self, arg_string: str) -> Any:
        with contextlib.suppress(ValueError):
            float(arg_string)
            return None  # a value
        return super()._parse_optional(arg_string)


def check_seed(seed: int) -> None:
    """Check that torch accepts a ``--seed``.

    Raises:
        InputError: It has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"--seed: expected an integer of 64 bits, found {seed}; give a smaller one")


def option_of(name: str) -> str:
    """The option or argument as the user types it, from its name in parsed arguments."""
    return name.upper() if name in ("config", "checkpoint") else "--" + name.replace("_", "-")


def command_parser(
    doc: str | None, prog: str | None = None, *, renamed: Mapping[str, str] | None = None
) -> CommandParser:
    """Make a parser whose help starts with the module's docstring, examples included, with its line breaks.

    Args:
        doc: The docstring.
        prog: Name of the command.
        renamed: New names of renamed options, by the old name.
    """
    parser = CommandParser(
        prog=prog,
        description=(doc or "").strip().replace("``", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.renamed = renamed or {}
    return parser
