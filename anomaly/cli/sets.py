"""The arguments of tools that say which sets are meant."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from anomaly.datasets.catalog import in_catalogue, load_dataset
from anomaly.datasets.dataset import AS_FOUND, Dataset
from anomaly.datasets.folder import open_folders, parse_encoding
from anomaly.datasets.layout import Encoding
from anomaly.errors import InputError
from anomaly.utils.names import check_distinct


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    add = parser.add_argument_group("which sets").add_argument
    add("--sets", nargs="+", default=[], metavar="NAME", help="sets to evaluate (tools/prepare_data.py list)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--limit", type=int, metavar="N", help="only the first N frames of each set, the closed set included")
    add(AS_FOUND, action="store_true", help="take sets as they are, though with other frames than published")
    add("--folder", nargs=2, type=Path, metavar=("IMAGES", "LABELS"), help="two folders as a set of your own")
    meanings = "what the values in LABELS mean, such as 0=known 2,5-9=anomaly 255=ignore; never guessed"
    add("--label-values", nargs="+", metavar="V=MEANING", help=meanings)
    add("--folder-name", metavar="NAME", help="of that set in results (default: the folder that holds LABELS)")


def data_root(args: argparse.Namespace) -> Path:
    """The folder that holds the data sets."""
    return args.data_root or Path(os.environ.get("DATA_ROOT", "data"))


def open_sets(args: argparse.Namespace) -> list[Dataset]:
    """Open the sets that were asked for.

    Raises:
        InputError: None was asked for, or one is not there, incomplete, or not what it should be.
    """
    splits = [load_dataset(name, data_root(args), as_found=args.as_found) for name in args.datasets]
    if args.folder is not None:
        images, labels = args.folder
        splits.append(open_folders(_folder_name(args), images, labels, folder_encoding(args)))
    elif unused := [name for name in ("label-values", "folder-name") if name.replace("-", "_") in args.given]:
        raise InputError(f"--{unused[0]} belongs to --folder; a set of the catalogue says what its label values mean")
    if args.as_found and not args.datasets and getattr(args, "calibrate_on", None) is None:
        raise InputError(f"{AS_FOUND} does nothing here, as no --sets are named; leave it out")
    if not splits:
        raise InputError("expected --sets NAME... or --folder IMAGES LABELS, found neither")
    check_distinct((split.name for split in splits), "sets", "name each once, or give a --folder-name")
    for split in splits:
        for note in split.notes:
            print(f"note: {split.name} is not as published: {note}", file=sys.stderr)
    return splits if args.limit is None else [split.limit(args.limit) for split in splits]


def folder_encoding(args: argparse.Namespace) -> Encoding | None:
    """What the label values of ``--folder`` mean, where that was said."""
    return None if args.label_values is None else parse_encoding(args.label_values)


def _folder_name(args: argparse.Namespace) -> str:
    if args.folder_name is not None:
        if args.folder_name in ("", ".", "..") or "/" in args.folder_name or in_catalogue(args.folder_name):
            raise InputError(f"--folder-name: expected a plain name that is no set's, found {args.folder_name!r}")
        return str(args.folder_name)
    name = args.folder[1].resolve().parent.name or "folder"
    return f"{name}-folder" if in_catalogue(name) else name
