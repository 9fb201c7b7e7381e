"""Startup time: importing the packages, and `--help` of every command, in fresh processes.

Each is started several times, and the shortest time counts. ``cpu_s`` is processor time (user and system), which other
programs on the machine affect less. ``python`` is the interpreter without imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anomaly.cli.main
import gmmseg.cli.main
from benchmarks._measure import machine

ROOT = Path(__file__).resolve().parents[3]
REPEATS = 5
IMPORTS = ("anomaly", "anomaly.metrics")
DATA = ("list", "check", "download", "street_scenes")
HELP = {
    "anomaly": ("", *anomaly.cli.main.COMMANDS, *(f"data {name}" for name in DATA)),
    "gmmseg": ("", *gmmseg.cli.main.COMMANDS),
}
"""The commands of each program; the first is the program alone."""
CRITERIA = {
    "longest_import_s": ("at most", 0.4),
    "longest_import_cpu_s": ("at most", 0.4),
    "longest_help_s": ("at most", 0.5),
    "longest_help_cpu_s": ("at most", 0.5),
}

Seconds = dict[str, float]


def measure() -> dict[str, Any]:
    """Shortest seconds of each start, and the longest of these."""
    with tempfile.TemporaryDirectory() as folder:
        imports = {f"import {name}": start(f"import {name}", folder=folder) for name in IMPORTS}
        helps = {
            f"{program} {command} --help".replace("  ", " "): start(
                f"from {program}.cli.main import main; main()", *command.split(), "--help", folder=folder
            )
            for program, commands in HELP.items()
            for command in commands
        }
        alone = start("pass", folder=folder)
    return {
        **machine(),
        "longest_import_s": longest(imports, "s"),
        "longest_import_cpu_s": longest(imports, "cpu_s"),
        "longest_help_s": longest(helps, "s"),
        "longest_help_cpu_s": longest(helps, "cpu_s"),
        "starts": {"python": alone, **imports, **helps},
    }


def longest(starts: dict[str, Seconds], name: str) -> float:
    """The longest of these seconds."""
    return max(seconds[name] for seconds in starts.values())


def start(code: str, *words: str, folder: str, repeats: int = REPEATS) -> Seconds:
    """Shortest seconds of a fresh process that runs ``code`` with ``words`` as its command line.

    Raises:
        RuntimeError: The process fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    wall, cpu = [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        wall.append(time.perf_counter() - begun)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{code} {' '.join(words)}: ended with {process.returncode}")
        cpu.append(used.ru_utime + used.ru_stime)
    return {"s": min(wall), "cpu_s": min(cpu)}
