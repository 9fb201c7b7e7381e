"""Command lines whose help reads like documentation, and of which no word is passed over."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from anomaly.errors import InputError


class CommandParser(argparse.ArgumentParser):
    """argparse's parser, for subcommands too, with three differences.

    What it parses has ``given``: the ``dest`` of every argument that was typed, positional ones and flags included. An
    option that is typed twice is refused, where argparse drops the first. A number is a value in every notation that
    ``float`` reads, where argparse takes ``-5e-06`` for an option.
    """

    _given: set[str]
    renamed: Mapping[str, str] = {}
    """Options of earlier versions by their names then: still taken, with a note."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, and say in ``given`` what was typed.

        Raises:
            InputError: An option is there twice.
        """
        self._given = set()
        args = [self._renamed(word) for word in (sys.argv[1:] if args is None else args)]
        parsed, rest = super().parse_known_args(args, namespace)
        parsed.given = self._given | getattr(parsed, "given", set())  # a subcommand has put its own there
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
                f"{max(action.option_strings, key=len)} is there twice, and only one can count; give it once"
                + ("" if action.nargs in (None, 0, "?") else ", with all its values")
            )
        if action.option_strings or arg_strings:  # a positional argument that may be left out comes without words
            self._given.add(action.dest)
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """End with one sentence, and not with the whole usage."""
        raise InputError(f"{message}; {self.prog} --help shows what there is")

    def _parse_optional(self, arg_string: str) -> Any:
        with contextlib.suppress(ValueError):
            float(arg_string)
            return None  # a value
        return super()._parse_optional(arg_string)


def check_seed(seed: int) -> None:
    """Refuse a ``--seed`` that torch cannot take.

    Raises:
        InputError: It has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"--seed: expected an integer of 64 bits, found {seed}; give a smaller one")


def option_of(name: str) -> str:
    """How an argument is written, from the name that parsed arguments have."""
    return name.upper() if name in ("config", "checkpoint") else "--" + name.replace("_", "-")


def command_parser(
    doc: str | None, prog: str | None = None, *, renamed: Mapping[str, str] | None = None
) -> CommandParser:
    """Make a parser whose help opens with the module's docstring, examples included, lines kept.

    Args:
        doc: The docstring.
        prog: The command.
        renamed: Options of earlier versions: the new name by the old one.
    """
    parser = CommandParser(
        prog=prog,
        description=(doc or "").strip().replace("``", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.renamed = renamed or {}
    return parser
