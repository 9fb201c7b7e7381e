"""Reduce the checkpoint of a training to the weights of its network: no optimizer, no logs, no memory.

Example:
    gmmseg publish CONFIG work_dirs/street_scenes/iter_600.pth checkpoints/street_scenes.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.mmseg_config import read_config
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``gmmseg publish``."""
    parser = command_parser(__doc__, "gmmseg publish")
    parser.add_argument("config", type=Path, help="config of the training")
    parser.add_argument("checkpoint", type=Path, help="checkpoint of the training")
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write")
    return parser.parse_args(words)


def shipped(checkpoint: dict[str, Any], config: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return the weights without the memory, the classes, and a record of their origin.

    Raises:
        InputError: The checkpoint names neither classes nor steps, or belongs to another network.
    """
    from anomaly.models.checkpoints import load_weights
    from anomaly.models.mmseg import build_model
    from anomaly.utils.file_records import config_record

    meta, classes = checkpoint.get("meta", {}), checkpoint.get("meta", {}).get("dataset_meta")
    if not classes or "iter" not in meta:
        raise InputError(
            f"checkpoint {args.checkpoint} does not name its classes and steps; give one that gmmseg train wrote"
        )
    weights = {key: value for key, value in checkpoint["state_dict"].items() if ".em.memory." not in key}
    load_weights(build_model(config), weights, args.checkpoint)
    named = {name: [*value] for name, value in classes.items() if name in ("classes", "palette")}
    origin = {"config": config_record(Path(config.filename), config.pretty_text), "steps": meta["iter"]}
    origin |= {"posthoc": meta["posthoc"]} if "posthoc" in meta else {}  # added classes, and the images they come from
    return {
        "state_dict": {key: value.clone() for key, value in weights.items()},
        "meta": {"dataset_meta": named} | origin,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Read a checkpoint, check it against the config, and write what a network needs."""
    args = parse_args(words)
    config = read_config(args.config)

    from anomaly.models.checkpoints import load_checkpoint_file
    from gmmseg.checkpoints.files import write_checkpoint

    if args.output.exists() and args.output.samefile(args.checkpoint):
        raise InputError(
            f"OUT is the same file as CHECKPOINT, {args.checkpoint}, which would be lost; give another name as OUT"
        )
    write_checkpoint(shipped(load_checkpoint_file(args.checkpoint), config, args), args.output)
    print(f"wrote {args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
