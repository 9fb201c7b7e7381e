"""A network with its weights, as a config and a checkpoint describe it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, CLOSED_SET, LOOKING, Reads
from anomaly.cli.mmseg_config import read_config
from anomaly.results.provenance import config_record, file_record


@dataclass(frozen=True)
class Network:
    """A network with its weights, its config and checkpoint as read, and their records."""

    config: Any
    model: Any
    device: Any
    checkpoint: dict[str, Any]
    inputs: dict[str, dict[str, Any]]


def load_network(args: argparse.Namespace, reads: Reads | None = None) -> Network:
    """Build the network, with its weights.

    Args:
        args: Parsed.
        reads: What is read of the config; by default what a network that looks at images needs, with a closed set or
            without.

    Raises:
        InputError: Whatever is wrong with config or checkpoint.
    """
    config = read_config(args.config, args.cfg_options, args.data_root, reads or _looking(args))

    from anomaly.models.mmseg import build_model, pick_device
    from anomaly.models.checkpoints import load_checkpoint_file, load_weights

    device, model = pick_device(args.device), build_model(config)
    checkpoint = load_checkpoint_file(args.checkpoint)
    load_weights(model, checkpoint["state_dict"], args.checkpoint)
    inputs = {"config": config_record(args.config, config.pretty_text), "checkpoint": file_record(args.checkpoint)}
    return Network(config, model, device, checkpoint, inputs)


def _looking(args: argparse.Namespace) -> Reads:
    if not args.no_closed_set:  # which is seen as test_cfg says, whatever the windows are
        return Reads((*LOOKING, *CLOSED_SET), CHECKPOINT_FOLLOWS)
    return Reads(LOOKING, {**CHECKPOINT_FOLLOWS, **by_windows(args)})


def by_windows(args: argparse.Namespace) -> dict[str, str]:
    """What ``--window`` and ``--stride`` say in the place of the config."""
    said = {r"model\.test_cfg": "--window"} if args.window is not None else {}
    said |= {r"model\.test_cfg\.stride": "--stride"} if args.stride is not None else {}
    return {key: f"{option} says so" for key, option in said.items()}
