"""The command ``gmmseg`` and its subcommands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from anomaly.cli.main import run_command

COMMANDS = {
    "train": "train a segmentation network, generative or not",
    "test": "compute closed-set metrics with mmsegmentation's test loop",
    "fit": "fit densities and scores to a network's training images (anomaly fit)",
    "add-class": "add a class to a GMMSeg network without training",
    "remove-class": "remove a class that add-class added",
    "convert": "convert a published GMMSeg checkpoint to the layout of this project",
    "publish": "reduce the checkpoint of a training to the weights of its network",
}


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand and exit."""
    run_command("gmmseg", COMMANDS, words)


if __name__ == "__main__":
    main()
