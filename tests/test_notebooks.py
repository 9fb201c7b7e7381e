"""Every notebook runs from top to bottom, on a network with random weights in place of a trained one."""

import json
from pathlib import Path

import matplotlib
import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path, tmp_path, monkeypatch):
    from anomaly.integrations.mmseg_detector import build_model

    matplotlib.use("agg")
    monkeypatch.chdir(ROOT)
    first, *rest = _code_cells(path)
    names = {}
    exec(first, names)
    torch.save({"state_dict": build_model(Config.fromfile(names["CONFIG"])).state_dict()}, tmp_path / "random.pth")
    names["CHECKPOINT"] = tmp_path / "random.pth"
    for cell in rest:
        exec(cell, names)
    matplotlib.pyplot.close("all")
