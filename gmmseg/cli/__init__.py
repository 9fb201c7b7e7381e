"""The command ``gmmseg``: one module per subcommand."""

import anomaly.cli  # noqa: F401  must come before numpy and torch are loaded
