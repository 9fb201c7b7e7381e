"""What the benchmark of startup times measures, and that every command is among it."""

from pathlib import Path

import pytest

import anomaly.cli
import gmmseg.cli


def test_processes_are_timed(tmp_path):
    from benchmarks.startup import start

    seconds = start("import time; time.sleep(0.3)", folder=str(tmp_path), repeats=1)
    assert 0 < seconds["cpu_s"] < 0.3 <= seconds["s"]
    with pytest.raises(RuntimeError, match="ended with 3"):
        start("raise SystemExit(3)", folder=str(tmp_path))


@pytest.mark.parametrize("package", [anomaly.cli, gmmseg.cli])
def test_every_command_has_a_module_and_is_timed(package):
    from benchmarks.startup import HELP

    folder = Path(package.__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if "\ndef main(" in path.read_text()} - {"main"}
    program = package.__name__.partition(".")[0]
    assert {command.replace("-", "_") for command in HELP[program] if command and " " not in command} == modules


def test_the_longest_counts():
    from benchmarks.startup import CRITERIA, longest

    assert longest({"a": {"s": 0.1, "cpu_s": 0.3}, "b": {"s": 0.2, "cpu_s": 0.1}}, "s") == 0.2
    assert set(CRITERIA.values()) == {("at most", 0.4), ("at most", 0.5)}
