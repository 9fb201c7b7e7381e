"""Options of ``ood_eval.py`` that do nothing without another, or beside another: refused, and not passed over."""

from __future__ import annotations

import argparse

from anomaly.errors import InputError

BELONGS = (
    ("components_at", "components"),
    ("calibrate_by", "calibrate_on"),
    ("score_scale", "predictions"),
    ("report_frames", "report"),
    ("label_values", "folder"),
    ("folder_name", "folder"),
)
OF_A_NETWORK = (
    *("config", "checkpoint", "cfg_options", "device", "threads", "precision", "batch", "window", "stride"),
    *("flip", "scales", "score_at", "statistics", "save_scores", "no_closed_set"),
)
BINNED = ("bootstrap", "calibrate_on", "report", "save_states")


def check_together(args: argparse.Namespace) -> None:
    """Refuse options that would be passed over.

    Raises:
        InputError: There are such.
    """
    for one, other in BELONGS:
        if one in args.given and other not in args.given:
            raise InputError(f"{_option(one)} belongs to {_option(other)}, which is not there; give both or neither")
    if args.predictions is not None and (given := [name for name in OF_A_NETWORK if name in args.given]):
        options = ", ".join(map(_option, given))
        raise InputError(
            f"{options}: expected only options of stored scores beside --predictions, found those of a network; leave "
            "them out, or leave --predictions out and name CONFIG and CHECKPOINT"
        )
    if args.binned and (asked := [name for name in BINNED if name in args.given]):
        raise InputError(
            f"{_option(asked[0])} needs every pixel's score, which --binned does not keep; leave one of them out"
        )
    if args.binned and "memory" in args.given:
        raise InputError("--memory does nothing beside --binned, whose memory is constant; leave one of them out")
    if "temporary" in args.given and args.binned and args.components is None:
        raise InputError("--temporary does nothing beside --binned, which writes no temporary file; leave it out")
    if "data_root" in args.given and args.predictions is not None and not (args.datasets or args.calibrate_on):
        raise InputError("--data-root does nothing here, as no --sets are looked for in it; leave it out")


def _option(name: str) -> str:
    return name.upper() if name in ("config", "checkpoint") else "--" + name.replace("_", "-")
