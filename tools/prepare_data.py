"""Sets: ``list`` those the catalogue knows, ``check`` or ``download`` one, or generate ``street_scenes``."""

from __future__ import annotations

import argparse

from _prepare import add_check, add_download, add_list
from _run import run
from _street_scenes import add_street_scenes


def main() -> None:
    """Parse the command line and run the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_list, add_check, add_download, add_street_scenes):
        add(commands)
    arguments = parser.parse_args()
    arguments.prepare(arguments)


if __name__ == "__main__":
    run(main)
