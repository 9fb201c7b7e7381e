"""The command ``gmmseg``: one module per subcommand."""

import anomaly.cli  # noqa: F401  before anything that loads numpy or torch
