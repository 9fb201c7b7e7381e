"""The arguments of ``ood_eval.py`` that say what is measured, and how."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from anomaly.datasets.catalog import load_dataset
from anomaly.errors import InputError
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.metrics.calibration import RULES
from anomaly.metrics.definitions import Levels
from anomaly.metrics.functional.components import TRACKS


def add_measures(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    add = parser.add_argument_group("what is measured").add_argument
    add("--bootstrap", nargs="?", type=int, const=2000, default=0, metavar="N", help="95 %% intervals (N draws, 2000)")
    add("--tpr", type=float, default=0.95, metavar="LEVEL", help="take the FPR at this TPR (default: 0.95, FPR95)")
    add("--fpr", type=float, default=0.05, metavar="LEVEL", help="take the recall at this FPR (default: 0.05)")
    add("--components", choices=TRACKS, help="component F1, sIoU and PPV by that track's rules")
    add("--components-at", metavar="T", help="best_f1 (default), calibrated, or a score")
    add("--calibrate-on", metavar="NAME", help="set to choose a threshold on, for every score; applied to the others")
    add("--calibrate-by", metavar="RULE", help="tpr=LEVEL, fpr=LEVEL or best_f1 (tpr=0.95)")
    add("--save-states", action="store_true", help="keep all scores in OUT/states/, for tools/compare.py")
    add("--binned", action="store_true", help="bound the pixel metrics in constant memory, instead of exact ones")
    add("--memory", type=float, default=2.0, metavar="GIB", help="for all scores, before disk is used (default: 2)")
    add("--temporary", type=Path, metavar="DIR", help="folder on that disk (default: the system's)")


def read_measures(args: argparse.Namespace, data_root: Path) -> dict[str, Any]:
    """Make arguments of :func:`anomaly.mmengine.run.run` out of parsed ones.

    Raises:
        InputError: A value is out of range, two do not go together, or there is no set to choose a threshold on.
    """
    if args.bootstrap < 0 or not 0 < args.memory < 2**30:
        wrong = f"--bootstrap {args.bootstrap}" if args.bootstrap < 0 else f"--memory {args.memory:g}"
        raise InputError(f"{wrong}: expected draws of 0 or more, and a finite number of GiB above 0")
    if args.temporary is not None and not args.temporary.is_dir():
        raise InputError(f"--temporary {args.temporary}: expected a folder, found none; name one on a large disk")
    Levels(args.tpr, args.fpr)  # says what is out of range
    measures = MetricConfig(
        mode="binned" if args.binned else "exact",
        memory_budget=int(args.memory * 2**30),
        spill_dir=args.temporary,
        track=None if args.components is None else TRACKS[args.components],
        components_at=_components_at(args),
        replicates=args.bootstrap,
        tpr=args.tpr,
        fpr=args.fpr,
    )
    return {"measures": measures, "calibration": _calibration(args, data_root), "save_states": args.save_states}


def _components_at(args: argparse.Namespace) -> Any:
    if args.components_at == "calibrated" and args.calibrate_on is None:
        raise InputError("--components-at calibrated: expected --calibrate-on too, found none")
    if args.components_at in (None, "best_f1", "calibrated"):
        return args.components_at or "best_f1"
    threshold = _number("--components-at", args.components_at)
    if len(args.scores) != 1 or "all" in args.scores or len(args.post) != 1:
        found = f"--scores {' '.join(args.scores)} --post {' '.join(args.post)}"
        raise InputError(f"--components-at {threshold}: expected one --scores and one --post, found {found}")
    return threshold


def _calibration(args: argparse.Namespace, data_root: Path) -> Calibration | None:
    if args.calibrate_on is None:
        return None
    by: Any = args.calibrate_by or "tpr=0.95"
    rule, _, level = by.partition("=")
    if rule not in RULES:
        raise InputError(f"--calibrate-by: expected {', '.join(RULES)}, such as fpr=0.01; found {by!r}")
    split = load_dataset(args.calibrate_on, data_root, as_found=args.as_found).limit(args.limit or sys.maxsize)
    return Calibration(split, rule, _number("--calibrate-by", level) if level else None)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{option}: expected a number, or a name that --help shows; found {text!r}") from error
