"""Options of ``ood_eval.py`` that do nothing without another: said, and not passed over."""

from __future__ import annotations

import argparse

from anomaly.errors import InputError

BELONGS = (
    ("components_at", "components"),
    ("calibrate_by", "calibrate_on"),
    ("score_scale", "predictions"),
    ("report_frames", "report"),
)
OF_A_NETWORK = ("save_scores", "device", "no_closed_set", "cfg_options", "statistics", "window", "stride", "flip")


def check_together(args: argparse.Namespace) -> None:
    """Refuse options that would be passed over.

    Raises:
        InputError: There are such.
    """
    for one, other in BELONGS:
        if getattr(args, one) is not None and getattr(args, other) is None:
            raise InputError(f"{_option(one)} belongs to {_option(other)}, which is not there; give both or neither")
    if args.predictions is not None and (given := [name for name in OF_A_NETWORK if getattr(args, name)]):
        options = ", ".join(map(_option, given))
        raise InputError(f"{options}: of a network, and --predictions has none; leave out what is of the other")
    if args.calibrate_on is not None and set(args.sets) == {args.calibrate_on} and args.folder is None:
        raise InputError(
            f"--calibrate-on {args.calibrate_on}: expected other --sets too, as no threshold is applied to the set "
            "that it was chosen on; name one"
        )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
