"""Rewrite a published GMMSeg checkpoint in this project's layout, and account for every key.

Example:
    gmmseg convert published.pth ours.pth --config CONFIG
"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, NETWORK, Reads
from anomaly.cli.mmseg_config import read_config
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Input, output, and the network that is to load the output."""
    parser = command_parser(__doc__, "gmmseg convert")
    parser.add_argument("input", type=Path, metavar="IN", help="a checkpoint of the published code")
    parser.add_argument("output", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--config", type=Path, help="build this config's network, and check every key against it")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Convert, report every key, and write if nothing is left over or missing."""
    args = parse_args(words)
    if args.cfg_options and args.config is None:
        raise InputError("--cfg-options: expected --config too, whose settings they are, found none; give both")
    if args.output.exists() and args.output.samefile(args.input):
        raise InputError(f"OUT is IN, {args.input}, and would be lost; name another OUT")
    model = _network(args) if args.config else None

    from anomaly.models.checkpoints import load_checkpoint_file
    from gmmseg.checkpoints.published import convert_published

    published = load_checkpoint_file(args.input)
    converted, report = convert_published(published, args.input, model)
    width = max(len(key) for fates in vars(report).values() for key in fates)
    for word, fates in vars(report).items():
        for key in fates:
            fate = fates[key] if isinstance(fates, dict) else ""
            print(f"{word.replace('_', ' '):10} {key:{width}}  {fate}".rstrip())
    unchanged = Counter(key.split(".")[0] for key in converted["state_dict"].keys() & published["state_dict"].keys())
    print(f"{'unchanged':10} " + ", ".join(f"{number} of {part}" for part, number in sorted(unchanged.items())))
    faults = [f"left over {key}" for key in report.left_over] + [f"missing {key}" for key in report.missing]
    if faults:
        named = "; ".join(faults[:8]) + ("; ... as listed" if len(faults) > 8 else "")
        raise InputError(
            f"{args.input} was not converted: {len(faults)} of its tensors do not fit ({named}); give the config of "
            "its network, and remove what no network reads"
        )
    _write(converted, args.output)
    print(f"{args.output} is written")


def _network(args: argparse.Namespace) -> Any:
    config = read_config(args.config, args.cfg_options, reads=Reads(NETWORK, CHECKPOINT_FOLLOWS))
    from anomaly.models.mmseg import build_model

    return build_model(config)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    import torch

    from gmmseg.checkpoints.files import PART, move_into_place

    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, part)
        move_into_place(part, path)
    except (OSError, RuntimeError) as error:  # torch's writer raises either
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(f"{path} could not be written ({str(error).splitlines()[0]}); name another OUT") from error
