"""Write docs/command_line.md: the help of every tool."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run

TOOLS = Path(__file__).resolve().parent
PAGE = TOOLS.parent / "docs/command_line.md"
ORDER = (
    *("prepare_data list", "prepare_data check", "prepare_data download", "prepare_data street_scenes"),
    *(
        "train",
        "test",
        "fit_gmm",
        "fit_scores",
        "ood_eval",
        "report",
        "look",
        "save_scores",
        "export_scores",
        "compare",
        "verify",
    ),
    *(
        "negative_control",
        "convert_checkpoint",
        "ship_checkpoint",
        "training_curves",
        "benchmark",
        "study collect",
        "study write",
    ),
    *("run_notebooks", "command_line_page", "datasets_page", "metrics_page", "model_table", "scaling_page"),
)
HEAD = """# Command line

Each tool prints this with `--help`. This page is written by `python tools/dev/command_line_page.py`.
"""


def help_of(tool: str) -> str:
    """What ``--help`` of a tool, or of its subcommand, prints, 100 columns wide."""
    name, *command = tool.split()
    words, before = [str(TOOLS / f"{name}.py"), *command, "--help"], sys.argv
    text = io.StringIO()
    try:
        sys.argv, os.environ["COLUMNS"] = words, "100"
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.argv = before
        del os.environ["COLUMNS"]
    return text.getvalue()


def page() -> str:
    """The whole page."""
    parts = [f"## {tool}\n\n```text\n{help_of(tool).rstrip()}\n```\n" for tool in ORDER]
    return "\n".join([HEAD, *parts])


def main() -> None:
    """Write it."""
    command_parser(__doc__).parse_args()
    PAGE.write_text(page())


if __name__ == "__main__":
    run(main)
