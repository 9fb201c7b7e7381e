"""The command ``anomaly``: one module per subcommand."""

from anomaly.cli import environment  # noqa: F401  before anything that loads numpy or torch
