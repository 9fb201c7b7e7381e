"""Remove a class that ``gmmseg add-class`` added: config, weights and class list become what they were without it.

Example:
    gmmseg remove-class CONFIG CHECKPOINT --name animal --out DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.mmseg_config import read_config
from anomaly.cli.parser import command_parser
from gmmseg.cli.add_class import file_name, write


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``gmmseg remove-class``."""
    parser = command_parser(__doc__, "gmmseg remove-class")
    parser.add_argument("config", type=Path, help="config that gmmseg add-class wrote")
    parser.add_argument("checkpoint", type=Path, help="checkpoint that it wrote")
    parser.add_argument("--name", required=True, help="name of the class to remove")
    out = "folder for CONFIG_no-NAME.py and .pth"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Remove the class, and write config and checkpoint, both or none."""
    args = parse_args(words)
    config, name = read_config(args.config), args.name.strip()

    from anomaly.models.checkpoints import load_checkpoint_file, load_weights
    from anomaly.models.mmseg import build_model
    from anomaly.utils.files import staged
    from gmmseg.new_classes import remove_class

    new_config, checkpoint = remove_class(config, load_checkpoint_file(args.checkpoint), name)
    load_weights(build_model(new_config), checkpoint["state_dict"], args.checkpoint)
    file = file_name(args.config, f"no-{name}")
    with staged(args.out, (f"{file}.pth", f"{file}.py")) as stage:
        write(new_config, checkpoint, stage / file)
    print(f"wrote {args.out / file}.py and {file}.pth, without {name}")
