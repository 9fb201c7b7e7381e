"""The check for a GPU, run on the CPU: what it measures, what it says without a GPU, and that a fault loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools/dev/gpu_check.py"
ENTRIES = {"status", "message", "values", "checks", "skipped", "warnings", "seconds"}

FAULTY = f"""
import os
import sys
import time

sys.path.insert(0, {str(TOOL.parent)!r})
import gpu_check
from gpu_check import Part


def raises(f):
    f.value("before", 1)
    raise RuntimeError("no kernel image is available")


def dies(f):
    f.check("before", 1.0, "at most", 2.0)
    os.abort()


def hangs(f):
    f.value("before", 1)
    time.sleep(600)


def waits(f):  # for a part after it, which has to run at the same time
    while not (f.folder / "here").exists():
        assert f.left() > 210
        time.sleep(0.01)


def misses(f):
    (f.folder / "here").touch()

    def one(f):
        raise ValueError("one of several")

    f.value("one_s", 1.0)
    f.attempt(one)
    f.check("speed", float("nan"), "at least", 1.0, goal=True)
    f.check("most", 3.0, "at most", 2.0)


def holds(f):
    f.attempt(holds, ("no_such_module",))
    f.check("most", 1.0, "at most", 2.0)
    f.check("speed", 1.0, "at least", 2.0, goal=True)
    f.value("nan", float("nan"))


gpu_check.GRACE = 1.0
gpu_check.PARTS = {{
    **{{function.__name__: Part(function, 60, beside=True) for function in (raises, dies, waits, misses, holds)}},
    "hangs": Part(hangs, 0.1),
    "absent": Part(holds, 60, ("no_such_module",)),
}}
sys.exit(gpu_check.main())
"""


def run(*words, tool=TOOL, **environment):
    """Run the tool in a process; give its exit status, its record and what it said."""
    command = [sys.executable, str(tool), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT)
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1]), ended.stderr


def checks(part):
    return {check["name"]: (check["outcome"], check["value"]) for check in part["checks"]}


def test_says_why_without_a_gpu(tmp_path):
    status, record, said = run("--out", tmp_path / "found.json", CUDA_VISIBLE_DEVICES="")
    assert status == 3
    assert record["status"] == "skipped"
    assert "--cpu tests this tool without" in record["skipped"][0]
    assert record["skipped"][0].removeprefix("everything: ") in said
    assert json.loads((tmp_path / "found.json").read_text()) == record


def test_a_part_that_fails_loses_no_other(tmp_path):
    tool = tmp_path / "faulty.py"
    tool.write_text(FAULTY)
    status, record, _ = run("--cpu", "--out", tmp_path / "found.json", tool=tool)
    assert status == 1
    assert json.loads((tmp_path / "found.json").read_text())["parts"] == record["parts"]
    parts = record["parts"]
    assert list(parts) == ["raises", "dies", "waits", "misses", "holds", "hangs", "absent"]
    assert {name: part["status"] for name, part in parts.items()} == {
        **dict.fromkeys(("raises", "dies", "misses", "hangs"), "failed"),
        **dict.fromkeys(("waits", "holds"), "passed"),
        "absent": "skipped",
    }
    assert parts["raises"]["message"] == "RuntimeError: no kernel image is available"
    assert parts["raises"]["values"] == parts["hangs"]["values"] == {"before": 1}
    assert parts["dies"]["message"] == "its process ended with status -6"
    assert checks(parts["dies"]) == {"before": ("holds", 1.0)}
    assert parts["hangs"]["message"].startswith("stopped after")
    assert checks(parts["misses"]) == {
        "one": ("FAILS", "ValueError: one of several"),
        "speed": ("goal missed", "nan"),
        "most": ("FAILS", 3.0),
    }
    assert checks(parts["holds"]) == {"most": ("holds", 1.0), "speed": ("goal missed", 1.0)}
    assert parts["holds"]["values"]["nan"] == "nan"
    assert parts["misses"]["values"].keys() == {"one_s", "seconds of one"}
    assert record["skipped"] == ["absent: not installed: no_such_module", "holds: holds: no_such_module not installed"]
    assert record["FAILS"] == 2


def test_names_what_it_needs_as_it_is_pinned():
    from gpu_check import NEEDS

    pins = "".join((ROOT / "requirements" / name).read_text() for name in ("mmseg.txt", "pretrained.txt"))
    assert all(pin in pins.split() or f"{pin}; python_version" in pins for pin in NEEDS.values())
    text = TOOL.read_text()
    assert all(text.count(pin) >= 2 for pin in NEEDS.values() if pin.split("==")[0] not in ("regex", "pyyaml"))


LONG = pytest.mark.skipif(os.environ.get("GPU_CHECK") != "all", reason="takes a minute; set GPU_CHECK=all to run it")


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("golden", "throughput"),
        *(
            pytest.param((name,), marks=LONG)
            for name in ("tensors", "steps", "bfloat16", "scenes", "networks", "resume")
        ),
    ],
)
def test_every_part_runs_on_the_cpu(tmp_path, names):
    pytest.importorskip("mmseg")
    status, record, said = run("--cpu", "--only", ",".join(("street_scenes", *names)), "--out", tmp_path / "found.json")
    assert status == 0, said
    assert record["status"] == "passed"
    assert list(record["parts"]) == ["street_scenes", *names]
    for name in names:
        part = record["parts"][name]
        assert part.keys() == ENTRIES
        assert part["status"] == "passed"
        assert part["checks"]
        assert all(check.keys() == {"name", "value", "must_be", "outcome"} for check in part["checks"])
