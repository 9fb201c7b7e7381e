"""Data sets: list those that are known, check or download one, or generate street scenes.

Examples:
    python tools/prepare_data.py list
    python tools/prepare_data.py check road_anomaly data
    python tools/prepare_data.py download anomaly_track-val
    python tools/prepare_data.py street_scenes --train 100
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly.cli.parser import command_parser
from anomaly.cli.prepare import add_check, add_download, add_list
from anomaly.cli.street_scenes import add_street_scenes


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and run the subcommand."""
    parser = command_parser(__doc__, "anomaly data")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_list, add_check, add_download, add_street_scenes):
        add(commands)
    arguments = parser.parse_args(words)
    arguments.prepare(arguments)
