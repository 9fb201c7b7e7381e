"""Data sets: list those that are known, check or download one, or generate street scenes.

Examples:
    python tools/prepare_data.py list
    python tools/prepare_data.py check road_anomaly data
    python tools/prepare_data.py download anomaly_track-val
    python tools/prepare_data.py street_scenes --train 100
"""

from __future__ import annotations

from _parser import tool_parser
from _prepare import add_check, add_download, add_list
from _run import run
from _street_scenes import add_street_scenes


def main() -> None:
    """Parse the command line and run the subcommand."""
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_list, add_check, add_download, add_street_scenes):
        add(commands)
    arguments = parser.parse_args()
    arguments.prepare(arguments)


if __name__ == "__main__":
    run(main)
