"""Keep of a training's checkpoint what a network needs: no optimizer, no logs, no memory.

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
    """Config, input and output."""
    parser = command_parser(__doc__, "gmmseg publish")
    parser.add_argument("config", type=Path, help="the config it was trained with")
    parser.add_argument("checkpoint", type=Path, help="a training's checkpoint")
    parser.add_argument("output", type=Path, metavar="OUT", help="the file to write")
    return parser.parse_args(words)


def shipped(checkpoint: dict[str, Any], config: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The weights without the memory, the classes, and where they come from.

    Raises:
        InputError: The checkpoint does not say what it was trained on, or is of another network.
    """
    from anomaly.models.checkpoints import load_weights
    from anomaly.models.mmseg import build_model
    from anomaly.utils.file_records import config_record

    meta, classes = checkpoint.get("meta", {}), checkpoint.get("meta", {}).get("dataset_meta")
    if not classes or "iter" not in meta:
        raise InputError(
            f"checkpoint {args.checkpoint} says neither its classes nor its steps; give one that gmmseg train wrote"
        )
    weights = {key: value for key, value in checkpoint["state_dict"].items() if ".em.memory." not in key}
    load_weights(build_model(config), weights, args.checkpoint)
    named = {name: [*value] for name, value in classes.items() if name in ("classes", "palette")}
    origin = {"config": config_record(Path(config.filename), config.pretty_text), "steps": meta["iter"]}
    return {
        "state_dict": {key: value.clone() for key, value in weights.items()},
        "meta": {"dataset_meta": named} | origin,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Read, check against the config, and write."""
    args = parse_args(words)
    config = read_config(args.config)

    import torch

    from anomaly.models.checkpoints import load_checkpoint_file
    from gmmseg.checkpoints.files import PART, move_into_place

    if args.output.exists() and args.output.samefile(args.checkpoint):
        raise InputError(f"OUT is CHECKPOINT, {args.checkpoint}, and would be lost; name another OUT")
    content = shipped(load_checkpoint_file(args.checkpoint), config, args)
    part = args.output.with_name(args.output.name + PART)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, part)
        move_into_place(part, args.output)
    except (OSError, RuntimeError) as error:  # torch's writer raises either
        part.unlink(missing_ok=True)
        raise InputError(f"{args.output} could not be written ({str(error).splitlines()[0]}); name another") from error
    print(f"{args.output} is written: {args.output.stat().st_size / 1e6:.1f} MB")
