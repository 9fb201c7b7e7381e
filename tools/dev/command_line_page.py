"""Write docs/command_line.md: the help of every command, and the command for each file of tools/."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run

DEV = Path(__file__).resolve().parent
ROOT = DEV.parents[1]
PAGE = ROOT / "docs/command_line.md"
DATA = ("list", "check", "download", "street_scenes", "paste")
TOOLS = {
    "prepare_data": "anomaly data",
    "ood_eval": "anomaly evaluate",
    "look": "anomaly look",
    "report": "anomaly report",
    "compare": "anomaly compare",
    "verify": "anomaly verify",
    "negative_control": "anomaly control",
    "save_scores": "anomaly save-scores",
    "export_scores": "anomaly export-scores",
    "fit": "anomaly fit",
    "train": "gmmseg train",
    "test": "gmmseg test",
    "convert_checkpoint": "gmmseg convert",
    "ship_checkpoint": "gmmseg publish",
}
"""The files of ``tools/``, and the command that each one runs."""
DEVELOPMENT = (
    *("benchmark", "study collect", "study write", "new_class_study measure", "new_class_study write"),
    *("training_curves", "run_notebooks", "command_line_page"),
    *("api_page", "datasets_page", "glossary_page", "metrics_page", "model_table", "scaling_page"),
)
HEAD = """# Command line

`pip install .` installs two commands, `anomaly` and `gmmseg`. In a clone, each file of `tools/` is
the same as one of their subcommands, with the same options:

| in a clone | installed |
| --- | --- |
{table}
`tools/dist_train.sh CONFIG GPUS`, `tools/dist_test.sh CONFIG CHECKPOINT GPUS` and `tools/dist_eval.sh CONFIG CHECKPOINT
GPUS` start `gmmseg train`, `gmmseg test` and `anomaly evaluate` on many processes ([distributed.md](distributed.md)).

Name a model as `CONFIG CHECKPOINT`, as in mmsegmentation, or with `--model`. Name datasets with `--data` or
`--sets`, which are the same option.

The sections below show the output of `--help`. `python tools/dev/command_line_page.py` writes this page.
"""


def help_of(command: str) -> str:
    """The output of ``--help`` of a command, such as ``anomaly data list``, 100 columns wide."""
    program, *words = command.split()
    return _printed(lambda: importlib.import_module(f"{program}.cli.main").main([*words, "--help"]))


def help_of_development(tool: str) -> str:
    """The output of ``--help`` of a file in ``tools/dev/``, or of its subcommand."""
    name, *words = tool.split()
    path, before = str(DEV / f"{name}.py"), sys.argv
    try:
        sys.argv = [path, *words, "--help"]
        return _printed(lambda: runpy.run_path(path, run_name="__main__"))
    finally:
        sys.argv = before


def _printed(call: Callable[[], object]) -> str:
    text, before = io.StringIO(), os.environ.get("COLUMNS")
    try:
        os.environ["COLUMNS"] = "100"
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            call()
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return text.getvalue()


def commands() -> list[str]:
    """All commands, with those of ``anomaly data`` one by one."""
    found = [f"{program} {name}" for program in ("anomaly", "gmmseg") for name in _subcommands(program)]
    place = found.index("anomaly data")
    return [*found[:place], *(f"anomaly data {name}" for name in DATA), *found[place + 1 :]]


def _subcommands(program: str) -> list[str]:
    return list(importlib.import_module(f"{program}.cli.main").COMMANDS)


def page() -> str:
    """The whole page."""
    table = "".join(f"| `tools/{tool}.py` | `{command}` |\n" for tool, command in TOOLS.items())
    parts = [f"## {command}\n\n```text\n{help_of(command).rstrip()}\n```\n" for command in commands()]
    parts += ["# For development\n"]
    parts += [f"## {tool}\n\n```text\n{help_of_development(tool).rstrip()}\n```\n" for tool in DEVELOPMENT]
    return "\n".join([HEAD.format(table=table), *parts])


def main() -> None:
    """Write the page."""
    command_parser(__doc__).parse_args()
    PAGE.write_text(page())


if __name__ == "__main__":
    run(main)
