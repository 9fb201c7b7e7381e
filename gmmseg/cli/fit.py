"""Fit densities and scores to a network's training images: the same command as ``anomaly fit``."""

from __future__ import annotations

from collections.abc import Sequence

from anomaly.cli.fit import main as fit


def main(words: Sequence[str] | None = None) -> None:
    """Run ``anomaly fit``."""
    fit(words, "gmmseg fit")
