"""Options that several commands share, and the model, datasets and inference settings made of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.errors import InputError
from anomaly.models.loading import FORMS, load_model, names_huggingface
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
"""Largest number of threads: torch ends the process if the system cannot start them."""
SCORE_NAMES = f"scores to compute, of {', '.join(SCORES)}"
AS_FOUND = "--as-found"


# ---- the model


def add_model(
    parser: argparse.ArgumentParser, *, required: bool = True, positional: bool = True, fitting: bool = False
) -> None:
    """Add the options that name a model; if ``fitting``, without those of what was fitted."""
    add = parser.add_argument_group("the model").add_argument
    if positional:
        add("config", type=Path, nargs="?", help="a config of mmsegmentation, such as those in configs/")
        add("checkpoint", type=Path, nargs="?", help="a checkpoint of that network")
    what = "CONFIG CHECKPOINT of mmsegmentation, a folder or hub id of Hugging Face, a detector of `anomaly fit` "
    what += "(.npz), or FILE.PY:NAME for a module, a model or a score function in a Python file"
    default = " (default: none)" if fitting else "" if required else " (default: the shipped network)"
    add("--model", nargs="+", metavar="SPEC", help=what + default)
    if not fitting:
        what = (
            "file of `anomaly fit` with what was fitted to the model: densities, and what scores need; backbones only "
        )
        what += "if they have moved or are FILE.PY:NAME. Without a model, FILE is a detector"
        add("--fitted", nargs="+", metavar=("FILE", "BACKBONE"), help=what)
    pickled = "read the weights of a Hugging Face network from a pickle (tensors only) if it has no safetensors"
    add("--allow-pickle", action="store_true", help=pickled)
    add("--device", help="such as cpu or cuda:0 (default: cuda if available)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the config to override")


def model_words(args: argparse.Namespace) -> list[str]:
    """The words that name the model: CONFIG CHECKPOINT, ``--model``, or the detector of ``--fitted``; empty without.

    Raises:
        InputError: The model is named in two ways, or incompletely.
    """
    named = [
        str(word) for word in (getattr(args, "config", None), getattr(args, "checkpoint", None)) if word is not None
    ]
    if named and args.model:
        raise InputError("model: expected CONFIG CHECKPOINT or --model, found both; name the model once")
    words = named or list(args.model or []) or list(getattr(args, "fitted", None) or [])[:1]
    if len(words) == 2 and Path(words[0]).is_dir():
        raise InputError(
            f"model: expected one folder of Hugging Face, or CONFIG and CHECKPOINT, found the folder {words[0]} and "
            f"{words[1]}; evaluate one model at a time"
        )
    if len(words) > 2:
        raise InputError(f"model: expected {FORMS}, found {' '.join(words)}; use one of these forms")
    if len(words) == 2 and ":" in words[0] and words[0].partition(":")[0].endswith(".py"):
        raise InputError(f"model: expected only {words[0]}, which is a complete model, found {words[1]} too; omit one")
    return words


def read_model(args: argparse.Namespace, reads: Reads) -> Model:
    """Load the model that the arguments name.

    Args:
        args: Parsed arguments.
        reads: The parts of a config that the command reads; an option for another part is refused.

    Raises:
        InputError: The config, the checkpoint or the file is invalid.
    """
    words = model_words(args)
    check_score_names(args.scores or [])
    file, *backbones = getattr(args, "fitted", None) or [None]
    if words == [file]:  # a detector, which is the model itself
        file = None
    more: dict[str, Any] = {"fitted": file, "backbones": backbones}
    if args.allow_pickle and not (len(words) == 1 and names_huggingface(words[0])):
        raise InputError(
            f"--allow-pickle: expected a folder or hub id of Hugging Face as the model, found {words[0]}; omit the "
            "option"
        )
    if len(words) == 1:
        if args.cfg_options:
            raise InputError(f"--cfg-options: expected a config as the model, found {words[0]}; omit the option")
        return load_model(words[0], device=args.device, allow_pickle=args.allow_pickle, **more)
    from anomaly.cli.mmseg_config import read_config

    config = read_config(Path(words[0]), args.cfg_options, getattr(args, "data_root", None), reads)

    from anomaly.models.mmseg import load_mmseg

    network = load_mmseg(config, Path(words[1]), device=args.device)
    return load_model(network, **more) if file is not None else network


def check_score_names(names: Sequence[str]) -> None:
    """Check score names before a network is loaded; names of score functions are only known afterwards."""
    check_distinct(names, "scores", "name each once")
    known = [name for name in names if name != "all" and name.partition(":")[0] in SCORES]
    get_scores(known)


# ---- inference


def add_inference(parser: argparse.ArgumentParser, *, fitting: bool = False) -> None:
    """Add the options of inference; if ``fitting``, only those that matter for fitting scores."""
    add = parser.add_argument_group("inference").add_argument
    add("--window", metavar="HxW", help="size of sliding windows (default: as the model says)")
    add(
        "--stride",
        metavar="HxW",
        help="distance between windows (default: as the model says, or two thirds of the window)",
    )
    if not fitting:
        add("--flip", action="store_true", help="also predict the mirrored image, and average the scores")
        add(
            "--scales",
            nargs="+",
            type=float,
            default=[1.0],
            metavar="S",
            help="scales of the image, whose scores are averaged (default: 1.0)",
        )
        add(
            "--score-at",
            choices=("features", "input"),
            default="features",
            help="resolution at which scores are computed (default: features)",
        )
    add("--batch", type=int, default=1, metavar="N", help="number of images and windows in a batch (default: 1)")
    add(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the network (default: float32)",
    )
    add("--threads", type=int, metavar="N", help="CPU threads of the network (default: torch's own)")
    if fitting:
        parser.set_defaults(flip=False, scales=[1.0], score_at="features")


def read_inference(args: argparse.Namespace, configured: Inference) -> Inference:
    """Make the configuration of inference.

    Args:
        args: Parsed arguments.
        configured: The settings of the model's config.

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
            raise InputError(f"--threads: expected 1 to {THREADS}, found {args.threads}; correct it")
        import torch

        torch.set_num_threads(args.threads)
    return replace(configured, **given, batch=args.batch, precision=args.precision)


def by_windows(args: argparse.Namespace) -> dict[str, str]:
    """Keys of a config that ``--window`` and ``--stride`` replace, with the reason."""
    said = {r"model\.test_cfg": "--window"} if args.window is not None else {}
    said |= {r"model\.test_cfg\.stride": "--stride"} if args.stride is not None else {}
    return {key: f"{option} replaces it" for key, option in said.items()}


def _size(option: str, text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"{option}: expected HEIGHTxWIDTH such as 512x1024, found {text!r}; write it so")
    return int(height), int(width)


def result_path(text: str) -> Path:
    """The ``results.json`` that an argument names, itself or by its folder."""
    path = Path(text)
    return path / "results.json" if (path / "results.json").is_file() else path


# ---- datasets


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add the options that name datasets."""
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
    add("--limit", type=int, metavar="N", help="use only the first N images of each dataset, and of the closed set")
    add(AS_FOUND, action="store_true", help="accept datasets whose images differ from the published ones")
    add(
        "--folder",
        nargs=2,
        type=Path,
        metavar=("IMAGES", "LABELS"),
        help="folders of your own images and label maps, as a dataset",
    )
    meanings = "meaning of the values in LABELS, such as 0=known 2,5-9=anomaly 255=ignore; never guessed"
    add("--label-values", nargs="+", metavar="V=MEANING", help=meanings)
    add(
        "--folder-name",
        metavar="NAME",
        help="name of --folder in results (default: name of the folder that holds LABELS)",
    )


def add_score_scale(add: Callable[..., Any]) -> None:
    """Add the option that gives score maps of integers their scale; ``add`` is the group's ``add_argument``."""
    add(
        "--score-scale",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="scores of the smallest and the largest integer",
    )


def data_root(args: argparse.Namespace) -> Path:
    """The folder that holds the datasets."""
    return args.data_root or Path(os.environ.get("DATA_ROOT", "data"))


def read_datasets(args: argparse.Namespace) -> list[Dataset]:
    """Open the datasets that the arguments name.

    Raises:
        InputError: None is named, or one is missing, incomplete or not as expected.
    """
    from anomaly.datasets.catalog import load_dataset
    from anomaly.datasets.folder import from_folders

    datasets = [load_dataset(name, data_root(args), as_found=args.as_found) for name in args.sets]
    if args.folder is not None:
        images, labels = args.folder
        datasets.append(from_folders(images, labels, args.label_values, name=args.folder_name))
    elif unused := [name for name in ("label-values", "folder-name") if name.replace("-", "_") in args.given]:
        raise InputError(
            f"--{unused[0]}: expected --folder too, found none; the datasets of the catalogue need no such option"
        )
    of_catalogue = [getattr(args, name, None) for name in ("calibrate_on", "closed_set")]
    if args.as_found and not args.sets and of_catalogue == [None, None]:
        raise InputError(f"{AS_FOUND} has no effect without --data; omit it")
    if not datasets:
        raise InputError("expected --data NAME... or --folder IMAGES LABELS, found neither; name a dataset")
    check_distinct((one.name for one in datasets), "datasets", "name each once, or give a --folder-name")
    for one in datasets:
        for note in one.notes:
            print(f"note: {one.name} is not as published: {note}", file=sys.stderr)
    return datasets if args.limit is None else [one.limit(args.limit) for one in datasets]


def open_maps(folder: Path, dataset: Dataset, scale: Scale | None) -> StoredScores:
    """Open the score maps of a dataset's frames, and print a note on other maps in the folder.

    Raises:
        InputError: A map is missing or ambiguous, or the maps belong to another dataset.
    """
    from anomaly.results.score_store import open_dataset_scores

    stored = open_dataset_scores(folder, dataset, scale=scale)
    if stored.unused:
        print(
            f"note: {len(stored.unused)} score maps in {stored.folder}, such as {stored.unused[0]}, belong to no frame "
            f"of {dataset.name} and are ignored",
            file=sys.stderr,
        )
    return stored
