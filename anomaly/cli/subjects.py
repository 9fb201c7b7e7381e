"""What ``ood_eval.py`` evaluates: a network, or score maps that are on disk."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.maps import open_maps
from anomaly.cli.network import Chosen, choose_network, settings_of
from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.run import Subject
from anomaly.results.score_formats.base import check_scale
from anomaly.scores.registry import SCORES, stored_scores


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    add = parser.add_argument_group("what is evaluated").add_argument
    add("config", type=Path, nargs="?", help="a config file, such as those in configs/")
    add("checkpoint", type=Path, nargs="?", help="a checkpoint of that network")
    add(
        "--scores",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"of {', '.join(SCORES)} (default: the usual ones), or all",
    )
    add("--predictions", type=Path, metavar="DIR", help="score maps on disk instead of config and checkpoint")
    add("--score-scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="what the least and largest integer mean")
    add("--save-scores", type=Path, metavar="DIR", help="write score maps there; a stopped run goes on from them")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--no-closed-set", action="store_true", help="leave the closed-set mIoU out")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")


def choose_subject(args: argparse.Namespace, splits: Sequence[Dataset]) -> Chosen:
    """Build the network, or open the score maps of all sets.

    Raises:
        InputError: Neither or both are named, or whatever is wrong with them.
    """
    named = (args.config is not None, args.checkpoint is not None, args.predictions is not None)
    if named not in ((True, True, False), (False, False, True)):
        raise InputError("expected CONFIG and CHECKPOINT, or --predictions DIR; name one of the two")
    if args.predictions is None:
        return choose_network(args, splits)
    return _stored(args, splits)


def _stored(args: argparse.Namespace, splits: Sequence[Dataset]) -> Chosen:
    scale = check_scale(args.score_scale)
    stores = {split.name: open_maps(args.predictions, split, scale) for split in splits}
    found = set.intersection(*(set(store.scores) for store in stores.values()))
    names = args.scores or [name for name in next(iter(stores.values())).scores if name in found]
    if missing := [name for name in names if name not in found] or ([] if names else ["any common to all sets"]):
        raise InputError(
            f"{args.predictions}: expected score {missing[0]!r}, found {', '.join(sorted(found)) or 'none'}"
        )
    first = next(iter(stores.values()))
    model = {"name": first.method or args.predictions.name, "type": "stored scores"}
    record = {"path": str(args.predictions), "format": first.format, "settings": dict(first.settings)}
    out = Path("work_dirs", *args.predictions.resolve().parts[-2:], "ood_eval")
    return Chosen(Subject(model, None, stores), stored_scores(names), settings_of(args), {"predictions": record}, out)
