"""The command ``anomaly``, with one module for each subcommand."""

from anomaly.cli import environment  # noqa: F401  before anything that loads numpy or torch
