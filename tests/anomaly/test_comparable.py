import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly.errors import InputError
from anomaly.report.formats import FORMATS, Cell, TextTable
from anomaly.report.table import runs_table
from anomaly.results.comparison import check_comparable, remarks
from anomaly.results.records import ClosedSet, DatasetResult, EvaluationRecord, ScoreResult

ROOT = Path(__file__).resolve().parents[2]


def run(name="net", *, frames=3, fingerprint="a" * 64, protocol=None, notes=(), model=None, **settings):
    values = {"auroc": 0.9, "ap": 0.5, "fpr95": 0.25}
    score = ScoreResult(values, {}, {}, frames, 100, 10, 0, [])
    entry = DatasetResult("road", frames, "flat", {"msp": score}, fingerprint=fingerprint, notes=list(notes))
    rules = {"pooling": "all"} if protocol is None else protocol
    return EvaluationRecord({"name": name, **(model or {})}, None, [entry], settings, {}, protocol=rules)


TRACK = {"min_label": 100, "at": "best_f1"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            run("b", fingerprint="b" * 64),
            r"road: .*found other labels for a and b \(fingerprints aaaaaaaaaaaa and bbbb",
        ),
        (run("b", frames=4, fingerprint="b" * 64), "found 3 and 4 frames for a and b"),
        (run("b", frames=4, fingerprint=""), "found 3 and 4 frames for a and b"),
        (
            run("b", protocol={"pooling": "mean over images"}),
            "the same protocol, found pooling 'all' for a and 'mean over im",
        ),
        (run("b", protocol={"pooling": "all", "labels": "resized"}), "found labels None for a and 'resized' for b"),
        (run("b", components={**TRACK, "min_label": 10}), "the same component rules, found min_label 100 for a and 10"),
        (run("b", threshold={"dataset": "val", "rule": "fpr"}), "rules of the threshold, found rule 'tpr' for a"),
    ],
)
def test_what_is_not_comparable_is_refused(other, message):
    first = run("a", components=TRACK, threshold={"dataset": "val", "rule": "tpr"})
    with pytest.raises(InputError, match=message):
        check_comparable([first, run("c", components=TRACK), other])


def test_other_closed_sets_are_refused():
    camvid = ClosedSet("CamVidDataset", 101, 0.5, 0.6, 0.9, {})
    first = replace(run("a"), closed_set=camvid)
    check_comparable([first, replace(run("b"), closed_set=replace(camvid, miou=0.6)), run("c")])
    with pytest.raises(InputError, match="the same closed set, found frames 101 for a and 6 for b"):
        check_comparable([first, replace(run("b"), closed_set=replace(camvid, frames=6))])


@pytest.mark.parametrize(
    "other", [run("b"), run("b", fingerprint=""), run("b", protocol={}), run("b", components=None)]
)
def test_what_is_comparable_or_not_known_to_differ_is_not(other):
    check_comparable([run("a", components=TRACK), other])


@pytest.mark.parametrize(
    ("one", "warned"),
    [
        (run(model={"fitted_on": ["road"]}), True),
        (run(model={"fitted_on": [{"dataset": "elsewhere", "fingerprint": "a" * 64}]}), True),
        (run(model={"fitted_on": [{"set": "road"}]}), True),  # as earlier versions wrote it
        (run(model={"fitted_on": ["camvid"]}), False),
        (replace(run(), provenance={"predictions": {"settings": {"fitted_on": "road"}}}), True),
    ],
)
def test_what_was_fitted_on_the_dataset_is_told(one, warned):
    assert any("fitted on" in remark for remark in remarks([one])) == warned


@pytest.mark.parametrize(
    ("chosen", "applied", "warned"),
    [("road", True, True), ("road-first", True, True), ("val", True, False), ("road", False, False)],
)
def test_a_threshold_is_told_of_where_it_is_applied_to_what_it_was_chosen_on(chosen, applied, warned):
    one = run(threshold={"dataset": chosen, "rule": "tpr"})
    entry = one.datasets[0]
    score = replace(entry.scores["msp"], at_threshold={"threshold": 0.5, "tpr": 0.9} if applied else {})
    found = remarks([replace(one, datasets=[replace(entry, scores={"msp": score})])])
    assert [
        f"chosen on {chosen}, so the metrics at this threshold on road are too optimistic" in each for each in found
    ] == [True] * warned


def test_the_other_half_is_another_dataset():
    first = run(model={"fitted_on": ["road-first"]})
    halves = {half: replace(first.datasets[0], dataset=f"road-{half}") for half in ("first", "second")}
    assert remarks([replace(first, datasets=[halves["second"]])]) == []
    assert len(remarks([replace(first, datasets=[halves["first"]])])) == 1


def test_datasets_that_are_not_as_published_are_told():
    assert remarks([run(notes=["3 frames where 60 are published"])]) == [
        "net: road is not as published: 3 frames where 60 are published"
    ]
    assert "does not say" in remarks([run("a"), run("b", fingerprint="")])[0]


TABLE = TextTable(["set", "AP_%"], [[Cell("a_b & c"), Cell("50.0", True)], [Cell("~x"), Cell("1\\2")]], left=1)


def test_markdown():
    assert FORMATS["markdown"](TABLE).splitlines()[:3] == ["| set | AP_% |", "| --- | ---: |", "| a_b & c | **50.0** |"]


def test_latex_escapes_everything():
    lines = FORMATS["latex"](TABLE).splitlines()
    assert lines[0] == r"\begin{tabular}{lr}"
    assert lines[2] == r"set & AP\_\% \\"
    assert lines[4] == r"a\_b \& c & \textbf{50.0} \\"
    assert lines[5] == r"\textasciitilde{}x & 1\textbackslash{}2 \\"


def test_csv_is_read_back():
    rows = list(csv.reader(io.StringIO(FORMATS["csv"](TABLE))))
    assert rows == [["set", "AP_%"], ["a_b & c", "50.0"], ["~x", "1\\2"]]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_every_value(form, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = FORMATS[form](runs_table([run("one"), run("two")]))
    assert text.count("90.00") == text.count("25.00") == 2
    assert "one" in text
    assert json.dumps(text)


def with_images(result, *images):
    entry = result.datasets[0]
    return replace(result, datasets=[replace(entry, images={f"f{i}": image for i, image in enumerate(images)})])


@pytest.mark.parametrize(("images", "told"), [(["one", "two"], True), (["three"], False), (["three", "one"], True)])
def test_images_and_not_names_tell_what_something_was_fitted_on(images, told):
    """The names of the datasets say nothing here: they are others where images are shared, and equal where not."""
    name = "elsewhere" if told else "road"
    result = with_images(run(), "one", "five")
    fitted = replace(result, provenance={"fitted": {"path": "s.npz", "sha256": "0", "images": images}})
    assert any("fitted on" in remark for remark in remarks([fitted])) == told
    chosen = replace(run(threshold={"dataset": name, "rule": "tpr"}), datasets=result.datasets)
    chosen = replace(chosen, provenance={"calibration": {"dataset": name, "images": images}})
    entry = chosen.datasets[0]
    score = replace(entry.scores["msp"], at_threshold={"threshold": 0.5, "tpr": 0.9})
    chosen = replace(chosen, datasets=[replace(entry, scores={"msp": score})])
    assert any("threshold was chosen on" in remark for remark in remarks([chosen])) == told


def test_what_a_score_and_the_closed_set_say_of_themselves():
    entry = run().datasets[0]
    score = replace(entry.scores["msp"], remarks=["all values are equal (0)"])
    closed = ClosedSet("CamVidDataset", 101, 0.5, 0.6, 0.9, {}, unlabelled=["bicyclist", "pole"])
    one = replace(run("a"), datasets=[replace(entry, scores={"msp": score})], closed_set=closed)
    found = remarks([one])
    assert "a: road, msp: all values are equal (0)" in found
    assert any("closed-set mIoU: no pixel is labelled bicyclist, pole" in remark for remark in found)
