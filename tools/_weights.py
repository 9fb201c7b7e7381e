"""A network with its weights, as a config and a checkpoint describe it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from _run import read_config
from anomaly.provenance import config_record, file_record


@dataclass(frozen=True)
class Network:
    """A network with its weights, its config and checkpoint as read, and their records."""

    config: Any
    model: Any
    device: Any
    checkpoint: dict[str, Any]
    inputs: dict[str, dict[str, Any]]


def load_network(args: argparse.Namespace) -> Network:
    """Build the network, with its weights.

    Raises:
        InputError: Whatever is wrong with config or checkpoint.
    """
    config = read_config(args.config, args.cfg_options, args.data_root)

    from anomaly.integrations.mmseg_detector import build_model, pick_device
    from gmmseg.checkpoints import load_checkpoint_file, load_weights

    device, model = pick_device(args.device), build_model(config)
    checkpoint = load_checkpoint_file(args.checkpoint)
    load_weights(model, checkpoint["state_dict"], args.checkpoint)
    inputs = {"config": config_record(args.config, config.pretty_text), "checkpoint": file_record(args.checkpoint)}
    return Network(config, model, device, checkpoint, inputs)
