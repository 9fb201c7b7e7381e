"""What is declared, what is pinned, what is imported and what is shipped agree."""

from __future__ import annotations

import ast
import os
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

import anomaly
import gmmseg
from anomaly.utils.optional import EXTRAS
from anomaly.utils.shipped import DEMO, SHARE, find_shipped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools" / "dev"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED_FILES = ("torch.txt", "base.txt", "mmseg.txt", "transformers.txt", "pretrained.txt", "test.txt")
MM = {"mmseg": "onedl-mmsegmentation", "mmengine": "onedl-mmengine", "mmcv": "onedl-mmcv"}


def requirements(*names: str) -> list[Requirement]:
    lines = [line for name in names for line in (ROOT / "requirements" / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def declared() -> list[Requirement]:
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    return [Requirement(line) for lines in (PYPROJECT["project"]["dependencies"], *extras) for line in lines]


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in plain | from_}


def test_wheel_holds_every_package_folder():
    found = set(find_packages(str(ROOT), **PYPROJECT["tool"]["setuptools"]["packages"]["find"]))
    folders = {file.parent for top in ("gmmseg", "anomaly") for file in (ROOT / top).rglob("*.py")}
    assert {"gmmseg", "gmmseg.functional", "anomaly", "anomaly.datasets"} <= found
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == found, "a folder lacks __init__.py"


def test_wheel_holds_every_config_and_checkpoint():
    tracked = {path for folder in ("configs", "checkpoints") for path in (ROOT / folder).rglob("*") if path.is_file()}
    tracked = {path for path in tracked if "__pycache__" not in path.parts}
    shipped = {}
    for place, patterns in PYPROJECT["tool"]["setuptools"]["data-files"].items():
        shipped |= {path: place for pattern in patterns for path in ROOT.glob(pattern)}
    assert shipped.keys() == tracked, "name the folder in [tool.setuptools.data-files]"
    assert all(str(SHARE / path.parent.relative_to(ROOT)) == place for path, place in shipped.items())


def test_both_packages_are_typed():
    files = PYPROJECT["tool"]["setuptools"]["package-data"]
    assert all("py.typed" in files[name] and (ROOT / name / "py.typed").is_file() for name in ("anomaly", "gmmseg"))


def test_version_has_one_source():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "anomaly.__version__"}
    assert anomaly.__version__ == gmmseg.__version__


@pytest.mark.parametrize(
    "package",
    ["lib/python3.11/site-packages", "lib/python3/dist-packages", "Lib/site-packages", "."],
    ids=["environment", "Debian", "Windows", "pip --target"],
)
def test_shipped_files_are_found_outside_a_clone(monkeypatch, tmp_path, package):
    config = tmp_path / SHARE / DEMO[0]
    config.parent.mkdir(parents=True)
    config.touch()
    monkeypatch.setattr("anomaly.utils.shipped.__file__", str(tmp_path / package / "anomaly/utils/shipped.py"))
    monkeypatch.chdir(tmp_path)
    assert find_shipped(DEMO[0]) == config.resolve()
    assert find_shipped(DEMO[1]) == DEMO[1]  # the file is not there: the path is what a message names


def test_own_files_come_before_shipped_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_shipped(str(DEMO[0])) == ROOT / DEMO[0]
    assert find_shipped("README.md") == Path("README.md")
    assert find_shipped(tmp_path / DEMO[0]) == tmp_path / DEMO[0]
    (tmp_path / DEMO[0]).parent.mkdir(parents=True)
    (tmp_path / DEMO[0]).touch()
    assert find_shipped(DEMO[0]) == DEMO[0]


def test_every_pin_is_exact():
    pins = requirements(*PINNED_FILES)
    loose = [str(pin) for pin in pins if [part.operator for part in pin.specifier] != ["=="]]
    assert len(pins) > 30
    assert not loose
    assert [str(pin) for pin in requirements("torch.txt")] == ["torch==2.13.0"]


def test_nothing_but_its_own_file_names_torch_and_opencv_comes_once():
    names = [canonicalize_name(pin.name) for pin in requirements(*PINNED_FILES[1:])]
    assert not {"torch", "torchvision", "timm", "opencv-python-headless"} & set(names)
    assert names.count("opencv-python") == 1


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_pins_satisfy_the_declared_ranges(python):
    at = {"python_version": python}
    pins = {}
    for pin in requirements(*PINNED_FILES):
        if pin.marker is None or pin.marker.evaluate(at):
            assert canonicalize_name(pin.name) not in pins, f"{pin.name} is pinned twice"
            pins[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    for need in declared():
        if need.marker is not None and not need.marker.evaluate({**at, "extra": ""}):
            continue
        assert canonicalize_name(need.name) in pins, f"{need.name} is declared and not pinned"
        assert need.specifier.contains(pins[canonicalize_name(need.name)]), need


@pytest.mark.slow
def test_every_import_is_declared():
    known = {canonicalize_name(need.name) for need in declared()}
    owners = packages_distributions()
    undeclared = set()
    for path in (path for top in ("gmmseg", "anomaly", "tools") for path in (ROOT / top).rglob("*.py")):
        own = {"gmmseg", "anomaly", *(["tests"] if "dev" in path.parts else [])}
        for name in imported(path) - sys.stdlib_module_names - own:
            beside = any((folder / end).exists() for folder in (path.parent, TOOLS) for end in (name, f"{name}.py"))
            # an upstream mmsegmentation stack has the same imports under other distribution names
            given = {canonicalize_name(owner) for owner in [MM.get(name, ""), *owners.get(name, [])]}
            if not beside and not given & known:
                undeclared.add(f"{path.relative_to(ROOT)}: {name}")
    assert "torch" in known
    assert not undeclared


def test_base_needs_neither_torch_nor_openmmlab():
    base = {canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["dependencies"]}
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert not base & {"torch", *MM.values()}
    assert not {canonicalize_name(pin.name) for pin in requirements("base.txt")} & {"torch", *MM.values()}
    assert [Requirement(line).name for line in extras["torch"]] == ["torch"]
    assert {Requirement(line).name for line in extras["mmseg"]} == {"torch", *MM.values()}


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_named_in_messages_are_declared(extra):
    owners = packages_distributions()
    owners = {module: [MM.get(module, ""), *owners.get(module, [])] for module in EXTRAS[extra]}
    known = {canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["optional-dependencies"][extra]}
    assert all(known & set(map(canonicalize_name, found)) for found in owners.values())


def test_one_command_each_for_users_and_ci():
    ci = ROOT / ".ci" / "run"
    makefile = (ROOT / "Makefile").read_text()
    assert os.access(ci, os.X_OK)
    assert "make test" in ci.read_text()
    assert {"demo", "test", "check", "clean"} <= set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    assert all(f"requirements/{name}" in makefile for name in PINNED_FILES), "the install must rerun when a pin changes"
