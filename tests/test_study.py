"""The study's page holds what its record says, and its tables are means over seeds."""

import copy
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import study_tables as tables
from anomaly.results.records import read_results
from study_record import without_folders

ROOT = Path(__file__).resolve().parents[1]
GOALS = {"camvid_ood": (84, 3.5), "road_anomaly": (78, 12)}
"""Least AP and largest FPR95 that docs say the best recipe reaches."""


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    monkeypatch.setattr(sys, "argv", ["study.py"])
    return runpy.run_path(str(ROOT / "tools/dev/study.py"))


@pytest.fixture
def studies():
    return {
        name: json.loads((ROOT / f"results/study{name and '_' + name}.json").read_text()) for name in ("", "longer")
    }


@pytest.fixture
def study(studies):
    return studies[""]


@pytest.mark.parametrize("name", ["", "longer"])
def test_the_page_is_up_to_date(tool, studies, name):
    text = (ROOT / "docs/study.md").read_text()
    assert tool["page"](text, studies) == text
    assert text.count("<!-- end -->") >= 9
    changed = copy.deepcopy(studies)
    changed[name]["networks"]["gmmseg"][0]["sets"]["camvid_ood"]["gmm_nll"]["ap"] = 0.0
    assert tool["page"](text, changed) != text


def test_the_record_names_no_folder_of_the_machine_it_was_made_on(study):
    words = {
        "command": "anomaly evaluate configs/a.py /home/me/b.pth --out /tmp/o",
        "cores": 2,
        "config": {"path": "/x/y.py"},
    }
    bare = {"command": "anomaly evaluate configs/a.py b.pth --out o", "cores": 2, "config": {"path": "y.py"}}
    assert without_folders(words) == bare
    assert without_folders(study["provenance"]) == study["provenance"]


def test_tables_are_means_over_seeds(study):
    seeds = study["networks"]["gmmseg"]
    assert len(seeds) >= 2
    table = tables.headline(study, [("gmmseg", "gmm_nll")])
    cells = [cell.strip() for cell in table.splitlines()[2].split("|")]
    values = [100 * seed["sets"]["camvid_ood"]["gmm_nll"]["ap"] for seed in seeds]
    assert cells[4] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert cells[-3].startswith(f"{100 * np.mean([seed['miou']['val'] for seed in seeds]):.1f}")
    plain = {name: s for name, s in seeds[0]["sets"]["camvid_ood"].items() if "+guided" not in name}
    best = max(score["ap"] for name, score in plain.items())
    row = tables.headline({**study, "networks": {"gmmseg": seeds[:1]}}, [("gmmseg", "best")]).splitlines()[2]
    assert row.split("|")[4].strip() == f"{100 * best:.1f}"


def test_generated_scenes_with_and_without_the_frozen_copy():
    with_it, without = (
        read_results(ROOT / f"results/street_scenes{kind}.json").datasets[0].scores["gmm_nll"]
        for kind in ("_frozen", "")
    )
    text = " ".join((ROOT / "docs/study.md").read_text().split())
    said = [
        f"{100 * one.values['ap']:.1f} [{', '.join(f'{100 * end:.1f}' for end in one.confidence_intervals['ap'])}]"
        for one in (with_it, without)
    ]
    fpr95 = [f"{100 * one.values['fpr95']:.1f}" for one in (with_it, without)]
    assert f"AP {said[0]} and FPR95 {fpr95[0]} with it, {said[1]} and {fpr95[1]} without" in text


def test_tables_of_frozen_features_are_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    tool = runpy.run_path(str(ROOT / "tools/dev/frozen_study.py"))
    record = json.loads((ROOT / "results/frozen.json").read_text())
    assert record["rows"].keys() == tool["ROWS"].keys()
    for page in tool["PAGES"]:
        text = page.read_text()
        assert tool["inserted"](text, record) == text
        assert "<!-- frozen end -->" in text
        changed = copy.deepcopy(record)
        changed["rows"]["540"]["camvid_ood"]["ap"][0] = 0.0
        assert tool["inserted"](text, changed) != text


def test_the_recipe_reaches_its_goals_in_the_record():
    rows = json.loads((ROOT / "results/frozen.json").read_text())["rows"]
    best = {name: {metric: 100 * values[0] for metric, values in rows["twin+540"][name].items()} for name in GOALS}
    for name, (ap, fpr95) in GOALS.items():
        assert best[name]["ap"] >= ap
        assert best[name]["fpr95"] <= fpr95


def test_the_claim_holds_in_the_record(study):
    """With the frozen copy the likelihood beats the twin's best scores in AP and FPR95 for certain; mIoU is kept."""
    tests = [one for one in study["paired"] if one["method"] == "gmmseg-frozen gmm_nll"]
    seeds = len(study["networks"]["gmmseg"])
    assert {(one["set"], one["seed"]) for one in tests} == {(s, k) for s in study["sets"] for k in range(seeds)}
    for one in tests:
        assert one["ap"]["low"] > 0, one
        assert one["fpr95"]["high"] < 0, one
    for ours, twin in zip(study["networks"]["gmmseg"], study["networks"]["softmax"], strict=True):
        assert ours["miou"]["val"] > twin["miou"]["val"] - 0.01
