"""The subcommand of ``prepare_data.py`` that generates a set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from anomaly.cli.progress import frame_progress
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.errors import InputError


def add_street_scenes(commands: Any) -> None:
    """Add ``street_scenes``."""
    parser = commands.add_parser(
        "street_scenes",
        help="write the generated street scenes",
        description="write the generated street scenes",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path("data/street_scenes"), help="folder to make")
    parser.add_argument("--train", type=int, default=240, metavar="N", help="training frames")
    parser.add_argument("--val", type=int, default=40, metavar="N", help="validation frames")
    parser.add_argument("--open-world", type=int, default=40, metavar="N", help="open-world frames")
    parser.add_argument("--size", default="360x480", metavar="HxW", help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="another seed gives other scenes")
    parser.set_defaults(prepare=_street_scenes)


def _street_scenes(arguments: argparse.Namespace) -> None:
    size = _parse_size(arguments.size)
    with frame_progress() as bar:
        task = bar.add_task("street scenes", total=None)
        write_street_scenes(
            arguments.root,
            train=arguments.train,
            val=arguments.val,
            open_world=arguments.open_world,
            size=size,
            seed=arguments.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"street scenes are in {arguments.root}")


def _parse_size(text: str) -> tuple[int, int]:
    height, by, width = text.lower().partition("x")
    if not (by and height.isdecimal() and width.isdecimal()):
        raise InputError(f"--size: expected height x width such as 360x480, found {text!r}")
    return int(height), int(width)
