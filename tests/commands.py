"""The installed commands, called in this process."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest

PAGE_TOOLS = Path(__file__).resolve().parents[1] / "tools/dev"

TOOLS = {
    "ood_eval": "anomaly evaluate",
    "look": "anomaly look",
    "save_scores": "anomaly save-scores",
    "export_scores": "anomaly export-scores",
    "fit": "anomaly fit",
    "prepare_data": "anomaly data",
    "compare": "anomaly compare",
    "report": "anomaly report",
    "verify": "anomaly verify",
    "negative_control": "anomaly control",
    "train": "gmmseg train",
    "test": "gmmseg test",
    "convert_checkpoint": "gmmseg convert",
    "ship_checkpoint": "gmmseg publish",
}
"""What the entry points in ``tools/`` run."""


def status_of(command, *words):
    """Run ``anomaly evaluate`` or another command with further words; give the status that it ends with."""
    program, *first = command.split()
    main = importlib.import_module(f"{program}.cli.main").main
    with pytest.raises(SystemExit) as ended:
        main([*first, *map(str, words)])
    return ended.value.code or 0


def enter_with_links(monkeypatch, folder, world):
    """Work in a folder with links to everything in another one, which stays as it is for other tests."""
    for path in world.iterdir():
        (folder / path.name).symlink_to(path)
    monkeypatch.chdir(folder)


def page_tool_status(monkeypatch, name, *words):
    """Run a tool of ``tools/dev`` with words; give the status that it ends with."""
    monkeypatch.syspath_prepend(str(PAGE_TOOLS))
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PAGE_TOOLS / name), run_name="__main__")
    return ended.value.code
