"""The arguments of tools that say which sets are meant."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from anomaly.datasets.catalog import SETS, open_split
from anomaly.datasets.folder import open_folders, parse_encoding
from anomaly.datasets.split import AS_FOUND, Split
from anomaly.errors import InputError

MEANINGS = ("0=known", "1=anomaly", "255=ignore")


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    add = parser.add_argument_group("which sets").add_argument
    add("--sets", nargs="+", default=[], metavar="NAME", help="sets to evaluate (tools/prepare_data.py list)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--limit", type=int, metavar="N", help="only the first N frames of each set, the closed set included")
    add(AS_FOUND, action="store_true", help="take sets as they are, though with other frames than published")
    add("--folder", nargs=2, type=Path, metavar=("IMAGES", "LABELS"), help="two folders as a set of your own")
    add("--label-values", nargs="+", metavar="V=MEANING", help=f"of --folder (default: {' '.join(MEANINGS)})")


def data_root(args: argparse.Namespace) -> Path:
    """The folder that holds the data sets."""
    return args.data_root or Path(os.environ.get("DATA_ROOT", "data"))


def open_sets(args: argparse.Namespace) -> list[Split]:
    """Open the sets that were asked for.

    Raises:
        InputError: None was asked for, or one is not there, incomplete, or not what it should be.
    """
    splits = [open_split(name, data_root(args), as_found=args.as_found) for name in dict.fromkeys(args.sets)]
    if args.folder is not None:
        images, labels = args.folder
        name = labels.resolve().parent.name
        name += "-folder" if name in SETS else ""
        splits.append(open_folders(name, images, labels, parse_encoding(args.label_values or MEANINGS)))
    elif args.label_values is not None:
        raise InputError("--label-values belong to --folder; a set of the catalogue says what its label values mean")
    if not splits:
        raise InputError("expected --sets NAME... or --folder IMAGES LABELS, found neither")
    for split in splits:
        for note in split.notes:
            print(f"note: {split.name} is not as published: {note}", file=sys.stderr)
    return splits if args.limit is None else [split.limit(args.limit) for split in splits]
