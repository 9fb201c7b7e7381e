"""The command ``anomaly``: its subcommands, and how one is run."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from anomaly.cli.process import leave, run
from anomaly.errors import InputError
from anomaly.utils.optional import raise_missing

COMMANDS = {
    "evaluate": "measure anomaly scores on labelled datasets",
    "look": "show what a network or a detector finds in images, without labels",
    "data": "list, check, download or generate datasets",
    "save-scores": "write score maps of images without labels",
    "export-scores": "write score maps in SegmentMeIfYouCan's layout",
    "fit": "fit densities and scores to ordinary images: a detector, or more likelihoods for a model",
    "compare": "compare results in one table, or show their differences",
    "report": "write an HTML report of one result or several",
    "verify": "measure a result again and check that it matches",
    "control": "run negative controls: uninformative scores in the same evaluation",
}


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand and exit."""
    run_command("anomaly", COMMANDS, words)


def run_command(program: str, commands: Mapping[str, str], words: Sequence[str] | None = None) -> NoReturn:
    """Run the subcommand that the first word names, and exit with its status.

    Args:
        program: ``anomaly`` or ``gmmseg``. The subcommand ``NAME`` is the module ``PROGRAM.cli.NAME``, with underscores
            for dashes.
        commands: Description of each subcommand, by name.
        words: The command line after the program's name; by default that of the process.
    """
    signal.signal(signal.SIGINT, leave)  # before imports that take seconds
    words = sys.argv[1:] if words is None else list(words)

    def start() -> None:
        if not words or words[0] in ("-h", "--help"):
            print(_usage(program, commands))
        elif words[0] == "--version":
            from anomaly import __version__

            print(f"{program} {__version__}")
        elif words[0] in commands:
            module = importlib.import_module(f"{program}.cli.{words[0].replace('-', '_')}")
            try:
                module.main(words[1:])
            except ModuleNotFoundError as error:
                raise_missing(error, "mmseg" if program == "gmmseg" else None)
        else:
            raise InputError(f"unknown command {words[0]!r}; the commands are {', '.join(commands)}")

    run(start)


def _usage(program: str, commands: Mapping[str, str]) -> str:
    width = max(map(len, commands))
    lines = [f"  {name:{width}}  {what}" for name, what in commands.items()]
    return "\n".join(
        [f"usage: {program} COMMAND ...", "", *lines, "", f"{program} COMMAND --help shows the options of a command."]
    )


if __name__ == "__main__":
    main()
