"""The wheel in an environment of its own, with the base dependencies and without torch: what `pip install .` gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import anomaly
from anomaly.utils.shipped import DEMO, SHARE
from tests.stored_maps import EVALUATE, datasets_of, write_dataset

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("anomaly", "gmmseg", "configs", "checkpoints", "pyproject.toml", "setup.py", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
NO_INDEX = ("NewConnectionError", "Temporary failure in name resolution", "ConnectTimeoutError", "ProxyError")

METRICS = """
import importlib.util
import numpy as np
from anomaly.metrics import PixelMetrics

assert importlib.util.find_spec("torch") is None
metrics = PixelMetrics("energy")
metrics.update("a", np.array([[0.1, 0.4, 0.35, 0.8]]), np.array([[0, 0, 1, 1]]))
print(metrics.compute()["auroc"])
"""


def run(*words, cwd, check=True, **environment):
    """Run a program without this process's paths of Python; give what it did."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel and its dependencies at the pinned versions; skip where pip reaches no index."""
    place = tmp_path_factory.mktemp("wheel")
    sources, environment = place / "sources", place / "environment"
    sources.mkdir()
    for name in SOURCES:  # a copy: building leaves folders behind
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources)
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, sources, cwd=place)
    (wheel,) = place.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=place)
    into = ("--python", environment / "bin" / "python", "install", "--no-compile")
    done = run(*PIP, *into, "--constraint", ROOT / "requirements/base.txt", wheel, cwd=place, check=False)
    if done.returncode and any(told in done.stderr for told in NO_INDEX):
        pytest.skip(f"pip reaches no index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    yield environment
    shutil.rmtree(place)  # half a gigabyte


@pytest.mark.slow
def test_wheel_without_torch(installed, tmp_path):
    write_dataset(tmp_path)
    python, command = installed / "bin/python", installed / "bin/anomaly"

    assert run(python, "-c", METRICS, cwd=tmp_path).stdout == "0.75\n"

    run(command, *EVALUATE, "--out", "wheel", cwd=tmp_path)
    code = "import sys; from anomaly.cli.main import main; main(sys.argv[1:])"
    run(sys.executable, "-c", code, *EVALUATE, "--out", "checkout", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert datasets_of(tmp_path / "wheel/results.json") == datasets_of(tmp_path / "checkout/results.json")
    assert (tmp_path / "wheel/report.html").stat().st_size > 10_000

    run(command, "compare", "wheel/results.json", "checkout/results.json", "--paired", cwd=tmp_path)
    assert run(command, "--version", cwd=tmp_path).stdout == f"anomaly {anomaly.__version__}\n"
    assert "GMMSeg" in run(installed / "bin/gmmseg", "--help", cwd=tmp_path).stdout

    refused = run(command, "look", "images", "--out", "look.html", cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert 'pip install ".[mmseg]"' in refused.stderr


@pytest.mark.slow
def test_wheel_ships_configs_and_the_small_network(installed, tmp_path):
    code = "from anomaly.utils.shipped import DEMO, find_shipped; print(*map(find_shipped, DEMO))"
    found = run(installed / "bin/python", "-c", code, cwd=tmp_path).stdout.split()
    assert found == [str(installed / SHARE / path) for path in DEMO]
    assert all(Path(path).read_bytes() == (ROOT / name).read_bytes() for path, name in zip(found, DEMO, strict=True))
    package = Path(run(installed / "bin/python", "-c", "import anomaly; print(anomaly.__file__)", cwd=tmp_path).stdout)
    assert (package.parent / "py.typed").is_file()
