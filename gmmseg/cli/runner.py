"""What training and testing share: arguments, and a runner from a config, or one sentence on why not."""

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
    """Add the arguments of every tool that runs mmengine, in mmseg's habits."""
    parser.add_argument("--work-dir", type=Path, help="logs and checkpoints (default: work_dirs/CONFIG)")
    parser.add_argument("--data-root", type=Path, help="folder that holds the data sets (default: data)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def runner_config(args: argparse.Namespace, keys: Sequence[str], said: Mapping[str, str]) -> Any:
    """Read ``args.config`` and apply what :func:`add_arguments` added.

    Args:
        args: Parsed.
        keys: What the tool reads of the config.
        said: Which of these it does not read after all, by key, and why.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    but = {re.escape(key): why for key, why in said.items()} | {"launcher": "--launcher says so"}
    if args.work_dir is not None:
        but["work_dir"] = "--work-dir says so"
    if args.launcher == "none":
        but[r"sync_bn|find_unused_parameters|env_cfg\.dist_cfg"] = "it is of several processes, which --launcher starts"
    config = read_config(args.config, args.cfg_options, args.data_root, Reads(keys, but))
    check_data_root(config, args.data_root)
    config.launcher = args.launcher
    config.work_dir = str(args.work_dir or config.get("work_dir") or Path("work_dirs", args.config.stem))
    return config


def build_runner(config: Any, *loaders: str) -> Any:
    """Build mmengine's runner, one that reads checkpoints safely.

    Args:
        config: An mmengine config.
        *loaders: The data loaders that will run, such as ``"train_dataloader"``; their folders have to exist, without
            a frame that mmseg passes over.

    Raises:
        InputError: Data, work dir or ``load_from`` are not there, or the config describes nothing that can be built.
    """
    from gmmseg.training import SafeRunner

    for loader in loaders:
        _check_data_folders(config, loader)
        _check_frames(config, loader)
        if config.get(loader) and not config[loader].get("num_workers"):
            config[loader].persistent_workers = False  # torch refuses workers that persist where there are none
    if Path(config.work_dir).is_file():
        raise InputError(f"--work-dir {config.work_dir} is a file; name a folder")
    if config.get("load_from") and not config.get("resume") and not Path(config.load_from).is_file():
        raise InputError(f"load_from names {config.load_from}, which is no file here; download it and name the file")
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
                f"{config.filename} reads its {loader} from {path}, which is no folder with files; put the data "
                "there, or name the folder that holds the data sets with --data-root (generated scenes are made "
                "by anomaly data street_scenes)"
            )


def _check_frames(config: Any, loader: str) -> None:
    """Refuse frames that the data set passes over, before anything is written."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    from anomaly.mmengine.closed_set import check_whole

    if not config.get(loader):
        return
    init_default_scope(config.get("default_scope", "mmseg"))
    try:
        dataset = DATASETS.build(copy.deepcopy(config[loader].dataset))
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, ImportError, OSError):
        return  # the runner will say what is wrong
    check_whole(dataset, f"{config.filename}, {loader}")
