"""Arguments and runner shared by ``gmmseg train`` and ``gmmseg test``."""

from __future__ import annotations

import argparse
import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.config_options import Reads
from anomaly.cli.mmseg_config import check_data_root, read_config
from anomaly.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that run mmengine; their names follow mmseg."""
    parser.add_argument("--work-dir", type=Path, help="folder for logs and checkpoints (default: work_dirs/CONFIG)")
    parser.add_argument("--data-root", type=Path, help="folder that holds the datasets (default: data)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override settings of the config"
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def runner_config(args: argparse.Namespace, keys: Sequence[str], unread: Mapping[str, str]) -> Any:
    """Read ``args.config`` and apply the arguments of :func:`add_arguments`.

    Args:
        args: The parsed arguments.
        keys: Parts of the config that the command reads.
        unread: Keys among these that it does not read, and why; ``--cfg-options`` for them are an error.

    Returns:
        An mmengine config.

    Raises:
        InputError: The config, an option or the data root is not valid.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    but = {re.escape(key): why for key, why in unread.items()} | {"launcher": "--launcher sets it"}
    if args.work_dir is not None:
        but["work_dir"] = "--work-dir sets it"
    if args.launcher == "none":
        but[r"sync_bn|find_unused_parameters|env_cfg\.dist_cfg"] = "it needs several processes, started by --launcher"
    config = read_config(args.config, args.cfg_options, args.data_root, Reads(keys, but))
    check_data_root(config, args.data_root)
    config.launcher = args.launcher
    config.work_dir = str(args.work_dir or config.get("work_dir") or Path("work_dirs", args.config.stem))
    return config


def build_runner(config: Any, *loaders: str) -> Any:
    """Build a :class:`gmmseg.training.SafeRunner` from a config.

    Args:
        config: An mmengine config.
        *loaders: Data loaders that will run, such as ``"train_dataloader"``. Their folders must exist, with a label
            map for every image.

    Raises:
        InputError: Data or ``load_from`` are missing, the work dir cannot be written, or the config cannot be built.
    """
    from gmmseg.training import SafeRunner

    for loader in loaders:
        _check_data_folders(config, loader)
        _check_frames(config, loader)
        if config.get(loader) and not config[loader].get("num_workers"):
            config[loader].persistent_workers = False  # torch refuses persistent workers if num_workers is 0
    if Path(config.work_dir).is_file():
        raise InputError(f"--work-dir {config.work_dir} is a file; give a folder")
    if config.get("load_from") and not config.get("resume") and not Path(config.load_from).is_file():
        raise InputError(
            f"load_from: expected a local file, found {config.load_from}; download the checkpoint and give its path"
        )
    try:
        return SafeRunner.from_cfg(config)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, ImportError, RuntimeError) as error:
        raise InputError(f"{config.filename} cannot be built: {type(error).__name__}: {error}") from error
    except OSError as error:
        raise InputError(f"--work-dir {config.work_dir} cannot be written: {error}") from error


def _check_data_folders(config: Any, loader: str) -> None:
    dataset = (config.get(loader) or {}).get("dataset", {})
    for folder in (dataset.get("data_prefix") or {}).values():
        path = Path(dataset.get("data_root") or "", folder)
        if not path.is_dir() or not any(path.iterdir()):
            raise InputError(
                f"{config.filename} reads the {loader} from {path}, which is not a folder with files; put the data "
                "there, or give the folder that holds the datasets as --data-root (anomaly data street_scenes makes "
                "the synthetic scenes)"
            )


def _check_frames(config: Any, loader: str) -> None:
    """Check, before anything is written, that the dataset skips no frame."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    from anomaly.mmengine.closed_set import check_whole

    if not config.get(loader):
        return
    init_default_scope(config.get("default_scope", "mmseg"))
    try:
        dataset = DATASETS.build(copy.deepcopy(config[loader].dataset))
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, ImportError, OSError):
        return  # the runner reports the fault
    check_whole(dataset, f"{config.filename}, {loader}")
