"""docs/metrics.md is what its tool writes, and ``anomaly compare --conventions`` prints what it should."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics
from anomaly.metrics.conventions import CONVENTIONS
from anomaly.report.conventions import MeasuredDataset, conventions_json, conventions_markdown, read_conventions
from tests.commands import page_tool_status, status_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "metrics.md").read_text()


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run a tool; give its status, what it printed and what it complained of."""

    def call(name, *words):
        if name.startswith("anomaly "):
            return status_of(name, *words), *capsys.readouterr()
        return page_tool_status(monkeypatch, name, *words), *capsys.readouterr()

    return call


@pytest.fixture
def state(tmp_path):
    random = np.random.default_rng(0)
    metrics = PixelMetrics("msp", dataset="street")
    for index in range(3):
        label = (random.random((20, 30)) < 0.1 * index).astype(np.uint8)
        metrics.update(f"frame{index}", (random.normal(size=label.shape) + label).astype(np.float32), label)
    (tmp_path / "states").mkdir()
    metrics.save(tmp_path / "states" / "street.msp.npz")
    return tmp_path / "states" / "street.msp.npz"


def results_beside(state, name="msp"):
    """A results.json with one set and one score."""
    record = json.loads((ROOT / "results" / "segformer.json").read_text())
    scores = record["sets"][0]["scores"]
    record["sets"] = [{**record["sets"][0], "set": "street", "scores": {name: next(iter(scores.values()))}}]
    path = state.parents[1] / "results.json"
    path.write_text(json.dumps(record))
    return path


def rows(table):
    return {line.split("|")[1].strip(" `"): line for line in table.splitlines() if line.startswith("| `")}


def test_page_is_up_to_date(tool, tmp_path):
    (tmp_path / "page.md").write_text(
        re.sub(r"(tools/dev/metrics_page.py -->\n).*?(<!-- end)", r"\1\2", PAGE, flags=re.S)
    )
    assert tool("metrics_page.py", "--file", tmp_path / "page.md")[0] == 0
    assert (tmp_path / "page.md").read_text() == PAGE


def test_page_shows_every_convention_and_scikit_learn_agrees():
    table = PAGE.split("The synthetic maps")[1].split("The same maps")[0]
    assert set(rows(table)) == set(CONVENTIONS)
    ours = re.findall(r"\d+\.\d\d", rows(table)["ours"])
    learn = next(line for line in table.splitlines() if line.startswith("| scikit-learn"))
    assert re.findall(r"(\d+\.\d\d) \(0\.00\)", learn) == ours


def test_page_without_marks_is_refused(tool, tmp_path):
    (tmp_path / "page.md").write_text("# Metrics\n")
    status, _, complaint = tool("metrics_page.py", "--file", tmp_path / "page.md")
    assert status == 2
    assert "page.md" in complaint


def test_compare_prints_every_convention(tool, state):
    status, printed, _ = tool("anomaly compare", "--conventions", state)
    assert status == 0
    assert printed.startswith("street, msp:\n")
    lines, result = rows(printed), PixelMetrics.load(state).compute()
    assert list(lines) == list(CONVENTIONS)
    shown = f"| {100 * result['auroc']:.2f} | {100 * result['ap']:.2f} | {100 * result['fpr95']:.2f} | 3 |"
    assert shown in lines["ours"]
    difference = 100 * (result["auroc_per_image"] - result["auroc"])
    assert f"| {100 * result['auroc_per_image']:.2f} ({difference:+.2f}) |" in lines["per_image"]
    assert lines["per_image"].split("|")[6].strip() == "2"
    assert all(CONVENTIONS[name].used_by in line for name, line in lines.items())


def test_compare_finds_the_states_of_results(tool, state, tmp_path):
    assert (
        tool("anomaly compare", "--conventions", results_beside(state))[1]
        == tool("anomaly compare", "--conventions", state)[1]
    )
    status, _, complaint = tool("anomaly compare", "--conventions", results_beside(state, "entropy"))
    assert status == 2
    assert "street.entropy.npz" in complaint
    assert "--save-states" in complaint


def test_compare_refuses_binned_states(tool, tmp_path):
    metrics = PixelMetrics("msp", dataset="street", mode="binned")
    metrics.update("a", np.float32([[1, 2]]), np.uint8([[0, 1]]))
    metrics.save(tmp_path / "binned.npz")
    status, _, complaint = tool("anomaly compare", "--conventions", tmp_path / "binned.npz")
    assert status == 2
    assert "exact" in complaint


def test_compare_json_goes_with_conventions(tool, tmp_path):
    status, _, complaint = tool("anomaly compare", ROOT / "results" / "segformer.json", "--json", tmp_path / "x.json")
    assert status == 2
    assert "--conventions" in complaint


def test_record_gives_the_same_table(tool, state, tmp_path):
    printed = tool("anomaly compare", "--conventions", state, "--json", tmp_path / "conventions_street.json")[1]
    (measured,) = read_conventions(tmp_path / "conventions_street.json")
    assert (measured.dataset, measured.score) == ("street", "msp")
    assert conventions_markdown(measured) in printed


def test_record_keeps_what_is_undefined(tmp_path):
    metrics = PixelMetrics()
    metrics.update("a", np.float32([[1e6, 2e6, 3e6]]), np.uint8([[0, 1, 0]]))
    with pytest.warns(UserWarning, match="smiyc"):
        measured = MeasuredDataset.of("street", "nll", metrics.frames())
    (tmp_path / "x.json").write_text(conventions_json([measured]))
    (again,) = read_conventions(tmp_path / "x.json")
    assert conventions_markdown(again) == conventions_markdown(measured)
    assert "| nan | nan | nan | 1 |" in rows(conventions_markdown(again))["smiyc"]


@pytest.mark.parametrize("text", ["", "{}x", "[1]", '[{"set": "a", "score": "b", "figures": {}}]', '{"a": 1}'])
def test_other_json_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        read_conventions(tmp_path / "x.json")


def test_missing_record_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json"):
        read_conventions(tmp_path / "none.json")
