"""``anomaly evaluate --report`` and ``anomaly report``: what they write, join and refuse."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from anomaly.evaluation.config import Calibration
from anomaly.report.html import write_page
from tests.commands import status_of
from tests.report_runs import CLASSES, FRAMES, HOSTILE, SET, write_run, write_split
from tests.test_ood_eval import GOOD, call, place  # noqa: F401

EVALUATE = (*GOOD, "--no-closed-set", "--heatmaps", "none", "--scores", "energy", "msp")


class Page(HTMLParser):
    """Elements with their attributes, the texts of scripts by id, and all other text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words, self._inside = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._inside = dict(attributes).get("id", tag)

    def handle_endtag(self, tag):
        self._inside = None if tag in ("script", "style") else self._inside

    def handle_data(self, data):
        if self._inside is None:
            self.words.append(data)
        else:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data

    @property
    def manifest(self):
        return json.loads(self.scripts["manifest"])


def call_report(monkeypatch, *arguments):

    status = status_of("anomaly report", *map(str, arguments))
    return status


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs on one set, without mmseg; the tools can be called."""

    split = write_split(tmp_path / "data")
    first = write_run(tmp_path / "a", split, seed=1, generative=True, name="first", frames=3)
    return split, [first, write_run(tmp_path / "b", split, seed=2, generative=False, name=HOSTILE)]


@pytest.mark.slow
def test_a_run_writes_its_report_and_a_run_without_takes_it_away(place, monkeypatch):
    assert call(monkeypatch, *EVALUATE, "--report", "--report-frames", "2", "--bootstrap", "20") == 0
    out = place / "out" / "run"
    assert sorted(path.name for path in out.iterdir()) == ["report", "report.html", "results.csv", "results.json"]
    assert sorted(p.name for p in (out / "report" / "road_anomaly").iterdir()) == ["0000.npz", "0001.npz", "set.npz"]
    text = (out / "report.html").read_text()
    page = Page(text)
    words = " ".join(" ".join(page.words).split())
    assert "This page shows 2 of the 3 images of road_anomaly, sampled evenly." in words
    result = json.loads((out / "results.json").read_text())["datasets"][0]
    for score in result["scores"].values():
        assert f"{100 * score['values']['auroc']:.1f}" in words
        assert all(f"{100 * end:.1f}" in words for end in score["confidence_intervals"]["ap"])
    assert result["fingerprint"][:16] in words
    (one,) = page.manifest["datasets"]
    assert [frame["name"] for frame in one["frames"]] == ["f0", "f2"]
    for frame in one["frames"]:
        ranks = [score["per_frame"][frame["name"]]["ap"] for score in result["scores"].values()]
        assert [method["rank"] for method in frame["methods"]] == ranks
    assert one["runs"][0]["classes"] == ["road", "sky", "car", "tree"]

    assert call(monkeypatch, *EVALUATE) == 0
    assert sorted(path.name for path in out.iterdir()) == ["results.csv", "results.json"]


def test_the_page_asks_nothing_of_anybody(runs):
    _, (_, second) = runs
    page = Page((second.parent / "report.html").read_text())
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "audio", "video")
        assert not {"src", "srcset", "style", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"@import|url\(", page.scripts["style"])
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(", page.scripts["script"])


@pytest.mark.slow
def test_two_runs_stand_side_by_side(runs, monkeypatch, capsys):
    _, paths = runs
    out = paths[0].parent.parent / "both.html"
    assert call_report(monkeypatch, *paths, "--out", out) == 0
    assert "both.html" in capsys.readouterr().out
    page = Page(out.read_text())
    (one,) = page.manifest["datasets"]
    assert [method["label"] for method in one["methods"]] == ["A gmm_nll", "A energy", "B msp"]
    assert [method["run"] for method in one["methods"]] == [0, 0, 1]
    assert [frame["name"] for frame in one["frames"]] == [FRAMES[0], FRAMES[2], FRAMES[5]]  # those that both keep
    assert [run["name"] for run in one["runs"]] == ["first", HOSTILE]
    words = " ".join(page.words)
    assert HOSTILE in words
    assert f"This page shows 3 of the 6 images of {SET}" in " ".join(words.split())


@pytest.mark.slow
def test_runs_of_one_network_are_told_apart_and_share_a_colour_scale(tmp_path):
    split, scores = write_split(tmp_path / "data"), {"seed": 1, "generative": True, "name": "one"}
    first = write_run(tmp_path / "a", split, **scores)
    second = write_run(tmp_path / "b", split, **{**scores, "seed": 3}, settings={"flip": True})
    write_page([first, second], tmp_path / "both.html")
    page = Page((tmp_path / "both.html").read_text())
    assert {"one; flip null", "one; flip true"} <= {word.strip() for word in page.words}
    methods = {one["label"]: one["limits"] for one in page.manifest["datasets"][0]["methods"]}
    kept = []
    for path in (first, second):
        with np.load(path.parent / "report" / SET / "set.npz") as file:
            edges = dict(json.loads(file["header"].tobytes())["curves"])["gmm_nll"]["edges"]
        kept.append((edges[0], edges[-1]))
    assert kept[0] != kept[1]
    both = [min(low for low, _ in kept), max(high for _, high in kept)]
    assert methods["A gmm_nll"] == methods["B gmm_nll"] == both


def test_component_metrics_stand_in_the_summary(tmp_path):
    split = write_split(tmp_path / "data")
    path = write_run(tmp_path / "a", split, seed=1, generative=True, name="one", components=True)
    page = Page((path.parent / "report.html").read_text())
    scores = json.loads(path.read_text())["datasets"][0]["scores"]
    assert {"F1* ↑", "sIoU ↑", "PPV ↑", "AUROC ↑", "FPR95 ↓", "closed-set mIoU"} <= set(page.words)
    for score in scores.values():
        assert f"{100 * score['components']['siou']:.2f}" in page.words


def test_a_carried_threshold_and_what_it_does_to_every_class(tmp_path):
    split = write_split(tmp_path / "data")
    chosen = Calibration(split.half("first"), "fpr", 0.2)
    path = write_run(tmp_path / "a", split.half("second"), seed=1, generative=True, name="one", calibration=chosen)
    scores = json.loads(path.read_text())["datasets"][0]["scores"]
    with np.load(path.parent / "report" / f"{SET}-second" / "set.npz") as file:
        kept = dict(json.loads(file["header"].tobytes())["curves"])
    words = Page((path.parent / "report.html").read_text()).words
    for name, score in scores.items():
        by_class = kept[name]["open_iou"]
        assert list(by_class)[: len(CLASSES)] == list(CLASSES)
        known = [by_class[one] for one in CLASSES]
        assert np.nanmean(known) == pytest.approx(score["open_world"]["open_miou"])
        assert np.nanmean([kept[name]["closed_iou"][one] for one in CLASSES]) == pytest.approx(
            score["open_world"]["closed_miou"]
        )
        assert {f"{100 * value:.2f}" for value in known} <= set(words)
        assert f"{score['at_threshold']['threshold']:.5g}" in words
        assert f"{100 * score['at_threshold']['tpr']:.2f}" in words
    assert f"fpr=0.2 on {SET}-first" in words


def test_a_page_keeps_to_its_size(tmp_path):
    split = write_split(tmp_path / "data")
    path = write_run(tmp_path / "a", split, seed=1, generative=True, name="first")
    whole = (path.parent / "report.html").stat().st_size
    write_page([path], tmp_path / "small.html", 0.15)
    page = Page((tmp_path / "small.html").read_text())
    assert len(page.manifest["datasets"][0]["frames"]) < len(FRAMES)
    assert (tmp_path / "small.html").stat().st_size < whole


@pytest.mark.slow
def test_what_cannot_be_shown_is_refused(runs, place, monkeypatch, capsys):
    split, (first, second) = runs

    def refused(*arguments):
        assert call_report(monkeypatch, *arguments) == 2
        return capsys.readouterr().err

    assert "found no such file" in refused("absent/results.json", "--out", "page.html")
    assert "ends in .html" in refused(first, "--out", "page.txt")
    assert "name each once" in refused(first, first)
    assert "megabytes: expected a size above 0" in refused(first, "--megabytes", "nan")
    other = write_run(place / "other", split.limit(5), seed=1, generative=True, name="other")
    assert "expected results of the same frames and labels" in refused(first, other)
    record = json.loads(second.read_text())
    record["datasets"][0]["scores"]["renamed"] = record["datasets"][0]["scores"].pop("msp")
    second.write_text(json.dumps(record))
    assert "found those of another run" in refused(second)
    shutil.rmtree(first.parent / "report")
    assert "evaluate again with anomaly evaluate --report" in refused(first)
    assert call(monkeypatch, *EVALUATE, "--report", "--binned") == 2
    assert "--report needs every pixel's score" in capsys.readouterr().err
    assert call(monkeypatch, *EVALUATE, "--report-frames", "3") == 2
    assert "--report-frames: expected --report too" in capsys.readouterr().err
    assert call(monkeypatch, *EVALUATE, "--report", "--report-frames", "0") == 2
    assert "expected 1 or more, found 0" in capsys.readouterr().err


def test_maps_from_disk_have_a_report_without_classes(place, monkeypatch):
    assert call(monkeypatch, *EVALUATE, "--save-scores", "maps") == 0
    stored = ("--predictions", "maps", "--sets", "road_anomaly", "--out", "out/stored", "--heatmaps", "none")
    assert call(monkeypatch, *stored, "--report") == 0
    page = Page((place / "out" / "stored" / "report.html").read_text())
    (frame, *_) = page.manifest["datasets"][0]["frames"]
    assert frame["runs"][0]["kind"] == ""
    assert frame["runs"][0]["predicted"] is None
    with np.load(place / "out" / "stored" / "report" / "road_anomaly" / "0000.npz") as view:
        assert view["array_000002"].size == 0
