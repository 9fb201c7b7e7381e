"""Arguments that several commands share, and what is made of them: the model, the datasets, the inference."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.errors import InputError
from anomaly.scores.registry import SCORES, get_scores
from anomaly.utils.names import check_distinct

if TYPE_CHECKING:
    from anomaly.cli.config_options import Reads
    from anomaly.datasets.dataset import Dataset
    from anomaly.models.base import Model
    from anomaly.models.tiling import Inference
    from anomaly.results.score_formats import Scale
    from anomaly.results.score_store import StoredScores

THREADS = 1024
"""Most threads: torch ends the process where the system has not enough."""
SCORE_NAMES = f"of {', '.join(SCORES)}"
AS_FOUND = "--as-found"


# ---- the model


def add_model(parser: argparse.ArgumentParser, *, required: bool = True, positional: bool = True) -> None:
    """Add the arguments that name a model to a parser."""
    add = parser.add_argument_group("the model").add_argument
    if positional:
        add("config", type=Path, nargs="?", help="a config of mmsegmentation, such as those in configs/")
        add("checkpoint", type=Path, nargs="?", help="a checkpoint of that network")
    what = "CONFIG CHECKPOINT, or FILE.PY:NAME of a module, a model or a score function"
    add("--model", nargs="+", metavar="SPEC", help=what + ("" if required else " (default: the shipped network)"))
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the config to override")


def model_words(args: argparse.Namespace) -> list[str]:
    """What names the model, from its two ways to be named; empty where it is not named.

    Raises:
        InputError: It is named in both ways, or in part.
    """
    named = [
        str(word) for word in (getattr(args, "config", None), getattr(args, "checkpoint", None)) if word is not None
    ]
    if named and args.model:
        raise InputError("expected CONFIG CHECKPOINT or --model, found both; name the model once")
    words = named or list(args.model or [])
    if len(words) > 2 or (len(words) == 1 and ":" not in words[0]):
        raise InputError(
            f"model: expected CONFIG and CHECKPOINT, or FILE.PY:NAME, found {' '.join(words)}; name the two, or the one"
        )
    if len(words) == 2 and ":" in words[0] and words[0].partition(":")[0].endswith(".py"):
        raise InputError(f"model: {words[0]} is a model by itself, found {words[1]} beside it; leave one out")
    return words


def read_model(args: argparse.Namespace, reads: Reads) -> Model:
    """Load the model that arguments name.

    Args:
        args: Parsed.
        reads: What the command reads of a config; an option for anything else is refused.

    Raises:
        InputError: Whatever is wrong with config, checkpoint or file.
    """
    from anomaly.models.loading import load_model

    words = model_words(args)
    check_score_names(args.scores)
    if len(words) == 1:
        if args.cfg_options:
            raise InputError(
                f"--cfg-options: expected a config, whose settings they are, found {words[0]}; leave it out"
            )
        return load_model(words[0], device=args.device)
    from anomaly.cli.mmseg_config import read_config

    config = read_config(Path(words[0]), args.cfg_options, getattr(args, "data_root", None), reads)

    from anomaly.models.mmseg import load_mmseg

    return load_mmseg(config, Path(words[1]), device=args.device)


def check_score_names(names: Sequence[str]) -> None:
    """Refuse names that no score has, before a network is loaded; those of score functions are known only then."""
    check_distinct(names, "scores", "name each once")
    known = [name for name in names if name != "all" and name.partition(":")[0] in SCORES]
    get_scores(known)


# ---- inference


def add_inference(parser: argparse.ArgumentParser, *, fitting: bool = False) -> None:
    """Add the arguments about inference to a parser; for fitting scores, those that matter there."""
    add = parser.add_argument_group("inference").add_argument
    add("--window", metavar="HxW", help="sliding windows of that size (default: as the config's test_cfg says)")
    add("--stride", metavar="HxW", help="distance of windows (default: two thirds of them)")
    if not fitting:
        add("--flip", action="store_true", help="predict the mirrored image too; scores are averaged")
        add("--scales", nargs="+", type=float, default=[1.0], metavar="S", help="image scales; scores are averaged")
        add("--score-at", choices=("features", "input"), default="features", help="resolution of scores (features)")
    add("--batch", type=int, default=1, metavar="N", help="images and windows at once (1)")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="of the network's arithmetic (float32)")
    add("--threads", type=int, metavar="N", help="CPU threads of the network (default: torch's)")
    if fitting:
        parser.set_defaults(flip=False, scales=[1.0], score_at="features")
    else:
        add("--statistics", type=Path, metavar="FILE", help="of `anomaly fit-scores`, for scores that need it")


def read_inference(args: argparse.Namespace, configured: Inference) -> Inference:
    """Make the configuration of inference.

    Args:
        args: Parsed.
        configured: What the model's config says about windows.

    Raises:
        InputError: A value is out of range.
    """
    given: dict[str, Any] = {}
    if args.window is not None:
        given = {"window": _size("--window", args.window), "stride": None}
    if args.stride is not None:
        given["stride"] = _size("--stride", args.stride)
    given |= {"flip": args.flip, "scales": tuple(args.scales), "resolution": args.score_at}
    if args.threads is not None:
        if not 1 <= args.threads <= THREADS:
            raise InputError(f"--threads: expected 1 to {THREADS}, found {args.threads}")
        import torch

        torch.set_num_threads(args.threads)
    return replace(configured, **given, batch=args.batch, precision=args.precision)


def by_windows(args: argparse.Namespace) -> dict[str, str]:
    """What ``--window`` and ``--stride`` say in the place of the config."""
    said = {r"model\.test_cfg": "--window"} if args.window is not None else {}
    said |= {r"model\.test_cfg\.stride": "--stride"} if args.stride is not None else {}
    return {key: f"{option} says so" for key, option in said.items()}


def _size(option: str, text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"{option}: expected HEIGHTxWIDTH such as 512x1024, found {text!r}")
    return int(height), int(width)


# ---- datasets


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name datasets to a parser."""
    add = parser.add_argument_group("datasets").add_argument
    add(
        "--sets",
        "--data",
        nargs="+",
        default=[],
        metavar="NAME",
        help="datasets of the catalogue (`anomaly data list`)",
    )
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add("--limit", type=int, metavar="N", help="only the first N images of each dataset, the closed set included")
    add(AS_FOUND, action="store_true", help="take datasets as they are, though with other images than published")
    add("--folder", nargs=2, type=Path, metavar=("IMAGES", "LABELS"), help="two folders as a dataset of your own")
    meanings = "what the values in LABELS mean, such as 0=known 2,5-9=anomaly 255=ignore; never guessed"
    add("--label-values", nargs="+", metavar="V=MEANING", help=meanings)
    add("--folder-name", metavar="NAME", help="its name in results (default: that of the folder that holds LABELS)")


def data_root(args: argparse.Namespace) -> Path:
    """The folder that holds the datasets."""
    return args.data_root or Path(os.environ.get("DATA_ROOT", "data"))


def read_datasets(args: argparse.Namespace) -> list[Dataset]:
    """Open the datasets that were asked for.

    Raises:
        InputError: None was asked for, or one is not there, incomplete, or not what it should be.
    """
    from anomaly.datasets.catalog import load_dataset
    from anomaly.datasets.folder import from_folders

    datasets = [load_dataset(name, data_root(args), as_found=args.as_found) for name in args.sets]
    if args.folder is not None:
        images, labels = args.folder
        datasets.append(from_folders(images, labels, args.label_values, name=args.folder_name))
    elif unused := [name for name in ("label-values", "folder-name") if name.replace("-", "_") in args.given]:
        raise InputError(f"--{unused[0]} belongs to --folder; the catalogue says what a dataset's label values mean")
    if args.as_found and not args.sets and getattr(args, "calibrate_on", None) is None:
        raise InputError(f"{AS_FOUND} does nothing here, as no --data are named; leave it out")
    if not datasets:
        raise InputError("expected --data NAME... or --folder IMAGES LABELS, found neither")
    check_distinct((one.name for one in datasets), "datasets", "name each once, or give a --folder-name")
    for one in datasets:
        for note in one.notes:
            print(f"note: {one.name} is not as published: {note}", file=sys.stderr)
    return datasets if args.limit is None else [one.limit(args.limit) for one in datasets]


def open_maps(folder: Path, dataset: Dataset, scale: Scale | None) -> StoredScores:
    """Open the score maps of a dataset's frames, and tell of others that are there.

    Raises:
        InputError: As :func:`anomaly.results.score_store.open_dataset_scores`.
    """
    from anomaly.results.score_store import open_dataset_scores

    stored = open_dataset_scores(folder, dataset, scale=scale)
    if stored.unused:
        print(
            f"note: {len(stored.unused)} score maps in {stored.folder}, such as {stored.unused[0]}, are of no frame of "
            f"{dataset.name} and are left out",
            file=sys.stderr,
        )
    return stored
