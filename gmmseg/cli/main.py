"""The command ``gmmseg``: which subcommands there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from anomaly.cli.main import run_command

COMMANDS = {
    "train": "train a segmentation network, generative or not",
    "test": "closed-set metrics by mmsegmentation's own test loop",
    "fit": "fit class mixtures to a trained network's features",
    "convert": "rewrite a published GMMSeg checkpoint in this project's layout",
    "publish": "keep of a training's checkpoint what a network needs",
}


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand and end the process."""
    run_command("gmmseg", COMMANDS, words)
