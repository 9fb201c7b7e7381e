"""Convert a published GMMSeg checkpoint to the layout of this project, and report every key.

Example:
    gmmseg convert published.pth ours.pth --config CONFIG
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, NETWORK, Reads
from anomaly.cli.mmseg_config import read_config
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``gmmseg convert``."""
    parser = command_parser(__doc__, "gmmseg convert")
    parser.add_argument("input", type=Path, metavar="IN", help="a checkpoint of the published code")
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write")
    parser.add_argument("--config", type=Path, help="check every key against the network of this config")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override settings of the config"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Convert a checkpoint, report every key, and write the result if no key is left over or missing."""
    args = parse_args(words)
    if args.cfg_options and args.config is None:
        raise InputError("--cfg-options changes settings of --config, which is missing; give both")
    if args.output.exists() and args.output.samefile(args.input):
        raise InputError(f"OUT is the same file as IN, {args.input}, which would be lost; give another name as OUT")
    model = _network(args) if args.config else None

    from anomaly.models.checkpoints import load_checkpoint_file
    from gmmseg.checkpoints.files import write_checkpoint
    from gmmseg.checkpoints.published import convert_published

    published = load_checkpoint_file(args.input)
    converted, report = convert_published(published, args.input, model)
    width = max(len(key) for keys in vars(report).values() for key in keys)
    for word, keys in vars(report).items():
        for key in keys:
            detail = keys[key] if isinstance(keys, dict) else ""
            print(f"{word.replace('_', ' '):10} {key:{width}}  {detail}".rstrip())
    unchanged = Counter(key.split(".")[0] for key in converted["state_dict"].keys() & published["state_dict"].keys())
    print(f"{'unchanged':10} " + ", ".join(f"{number} of {part}" for part, number in sorted(unchanged.items())))
    faults = [f"left over {key}" for key in report.left_over] + [f"missing {key}" for key in report.missing]
    if faults:
        named = "; ".join(faults[:8]) + ("; ..." if len(faults) > 8 else "")
        raise InputError(
            f"{args.input} was not converted: {len(faults)} of its tensors do not fit ({named}); give the config of "
            "its network, and remove tensors that no network reads"
        )
    write_checkpoint(converted, args.output)
    print(f"wrote {args.output}")


def _network(args: argparse.Namespace) -> Any:
    config = read_config(args.config, args.cfg_options, reads=Reads(NETWORK, CHECKPOINT_FOLLOWS))
    from anomaly.models.mmseg import build_model

    return build_model(config)
