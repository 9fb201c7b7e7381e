import csv
import io
import json
import math
import os
import re
import threading
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from anomaly.errors import InputError
from anomaly.report.table import results_markdown, results_table
from anomaly.results.records import (
    ClosedSet,
    DatasetResult,
    EvaluationRecord,
    ScoreResult,
    read_results,
    state_name,
    write_results,
)


def pixels(auroc, ap, fpr95):
    values = {"auroc": auroc, "ap": ap, "fpr95": fpr95}
    return ScoreResult(values, {"ap": [0.0, 1.0]}, {}, 3, 1000, 50, 7, ["street_7"])


def run(**changes):
    datasets = [
        DatasetResult(
            "road_anomaly",
            3,
            "official",
            {"gmm_nll": pixels(0.9123456789012345, 0.5, 0.25), "msp": pixels(0.8, 0.625, 0.25)},
        ),
        DatasetResult("empty", 3, "flat", {"msp": pixels(math.nan, math.nan, math.nan)}),
    ]
    closed = ClosedSet("camvid", 5, 0.421, 0.5, 0.9, {"road": 0.95, "bicyclist": math.nan})
    result = EvaluationRecord({"name": "segformer"}, closed, datasets, {"resize": None}, {"torch": "2.13", "café": 1.5})
    return replace(result, **changes)


def test_what_is_written_is_read_back(tmp_path):
    write_results(run(), tmp_path / "new" / "folder")
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["results.csv", "results.json"]
    found = read_results(tmp_path / "new" / "folder" / "results.json")
    assert repr(found) == repr(run())  # NaN equals NaN there
    without = run(closed_set=None, datasets=[])
    assert EvaluationRecord.from_json(without.to_json()) == without


def test_json_is_strict_and_keeps_the_order():
    def refuse(constant):
        raise AssertionError(constant)

    record = json.loads(run().to_json(), parse_constant=refuse)
    last = ["settings", "provenance", "protocol", "timings", "format_version"]
    assert list(record) == ["model", "closed_set", "datasets", *last]
    assert list(record["datasets"][0]["scores"]) == ["gmm_nll", "msp"]
    assert record["datasets"][0]["scores"]["gmm_nll"]["values"]["auroc"] == 0.9123456789012345
    assert record["datasets"][1]["scores"]["msp"]["values"]["ap"] is None
    assert record["closed_set"]["class_iou"] == {"road": 0.95, "bicyclist": None}
    assert '\n  "datasets"' in run().to_json()


def test_csv_has_a_row_for_each_dataset_and_score():
    table = pd.read_csv(io.StringIO(run().to_csv()), float_precision="round_trip")
    pixel_columns = ["frames", "known_pixels", "anomaly_pixels", "ignored_pixels"]
    assert list(table.columns) == ["dataset", "score", *pixel_columns, "auroc", "ap", "fpr95", "miou"]
    assert list(zip(table["dataset"], table["score"], strict=True)) == [
        ("road_anomaly", "gmm_nll"),
        ("road_anomaly", "msp"),
        ("empty", "msp"),
    ]
    assert table.loc[0].tolist()[2:] == [3, 1000, 50, 7, 0.9123456789012345, 0.5, 0.25, 0.421]
    assert table.loc[2, ["auroc", "ap", "fpr95"]].isna().all()
    assert run(closed_set=None).to_csv().splitlines()[1].endswith("0.25,")


def test_confidence_intervals_and_further_values_have_columns():
    plain, result = pixels(0.9, 0.5, 0.25), run()
    rich = replace(plain, confidence_intervals={"ap": [0.4, 0.6]}, components={"f1_mean": 0.3}, open_world={"gap": 0.1})
    rich = replace(rich, at_threshold={"tpr": 0.9})
    result.datasets[0].scores["gmm_nll"] = rich
    assert repr(EvaluationRecord.from_json(result.to_json())) == repr(result)
    table = pd.read_csv(io.StringIO(result.to_csv()))
    more = ["components.f1_mean", "open_world.gap", "at_threshold.tpr"]
    assert list(table.columns)[6:] == ["auroc", "ap", "ap_low", "ap_high", "fpr95", *more, "miou"]
    assert table.loc[0, ["ap_low", "ap_high", *more]].tolist() == [0.4, 0.6, 0.3, 0.1, 0.9]
    assert table.loc[1, ["ap_low", "ap_high", *more]].isna().all()
    assert "| 50.0 [40.0-60.0] |" in results_markdown([result])


def renamed(found, names):
    """An object of JSON with other names for some keys, in the same order."""
    return {names.get(key, key): value for key, value in found.items()}


def of_format(version, result):
    """The JSON object of an earlier version, which had other keys, and fewer the older it is."""
    record = renamed(json.loads(result.to_json()), {"datasets": "sets"})
    record["sets"] = [renamed(entry, {"dataset": "set"}) for entry in record["sets"]]
    for entry in record["sets"]:
        words = {"values": "figures", "confidence_intervals": "intervals"}
        entry["scores"] = {name: renamed(score, words) for name, score in entry["scores"].items()}
        for score in entry["scores"].values():
            for key in ("remarks",) * (version < 4) + ("per_frame",) * (version < 3):
                del score[key]
        older = ("version", "fingerprint", "published_frames", "notes") if version < 3 else ()
        for key in ("images",) * (version < 4) + older:
            del entry[key]
    if version < 4:
        del record["closed_set"]["unlabelled"]
    if version < 3:
        del record["protocol"], record["timings"]
    for part, key in (("settings", "threshold"), ("provenance", "calibration")):
        if key in record[part]:
            record[part][key] = renamed(record[part][key], {"dataset": "set"})
    return {**record, "format_version": version}


def test_files_of_the_first_format_are_read():
    record = of_format(1, run())
    counts = {"frames": 3, "known_pixels": 1000, "anomaly_pixels": 50, "ignored_pixels": 7, "frames_without_anomaly": 1}
    for entry in record["sets"]:
        entry["scores"] = {name: {**counts, **score["figures"]} for name, score in entry["scores"].items()}
    found = EvaluationRecord.from_json(json.dumps(record))
    expected = [score.values for entry in run().datasets for score in entry.scores.values()]
    assert repr([score.values for entry in found.datasets for score in entry.scores.values()]) == repr(expected)
    assert found.datasets[0].scores["msp"].known_pixels == 1000
    assert found.datasets[0].fingerprint == ""
    assert EvaluationRecord.from_json(found.to_json()).format_version == 5


@pytest.mark.parametrize("version", [2, 3, 4])
def test_files_of_later_formats_are_read_with_all_that_they_have(version):
    chosen = {"dataset": "val", "frames": 3, "rule": "tpr", "level": 0.95}
    result = run(settings={"threshold": chosen}, provenance={"calibration": {"dataset": "val", "images": ["0a", "1b"]}})
    result.datasets[0].scores["msp"] = replace(pixels(0.8, 0.6, 0.2), confidence_intervals={"ap": [0.4, 0.7]})
    assert repr(EvaluationRecord.from_json(json.dumps(of_format(version, result)))) == repr(result)


def test_two_datasets_of_one_name_are_no_result():
    first = run().datasets[0]
    with pytest.raises(InputError, match="datasets in one result of different names, found 'road_anomaly' 2 times"):
        run(datasets=[first, first])
    text = run().to_json().replace('"dataset": "empty"', '"dataset": "road_anomaly"')
    with pytest.raises(InputError, match="'road_anomaly' 2 times"):
        EvaluationRecord.from_json(text)
    with pytest.raises(InputError, match="keys of one JSON object of different names, found 'msp' 2 times"):
        EvaluationRecord.from_json(run().to_json().replace('"gmm_nll": {', '"msp": {', 1))


def test_a_failed_write_leaves_the_old_results(tmp_path, monkeypatch):
    write_results(run(), tmp_path)
    old = (tmp_path / "results.json").read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    with pytest.raises(InputError, match=r"^settings\.path: expected a value that JSON can represent .* found <object"):
        write_results(run(settings={"path": object()}), tmp_path)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_results(run(datasets=[]), tmp_path)
    assert (tmp_path / "results.json").read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["results.csv", "results.json"]


def test_numbers_and_paths_of_others_are_written_as_what_they_are(tmp_path):
    settings = {
        "threshold": np.float32(0.1),
        "window": (np.int64(512), np.array(256)),
        "deep": [{"scale": torch.tensor(0.5), "flip": np.True_, "none": None, "undefined": np.float64("nan")}],
        "folder": tmp_path / "a b",
        7: "a number of a class",
    }
    given = run(settings=settings, model={"name": np.str_("net"), "size": np.uint8(3)}, provenance={"file": tmp_path})
    found = json.loads(given.to_json())
    assert found["settings"] == {
        "threshold": 0.10000000149011612,
        "window": [512, 256],
        "deep": [{"scale": 0.5, "flip": True, "none": None, "undefined": None}],
        "folder": str(tmp_path / "a b"),
        "7": "a number of a class",
    }
    assert found["model"] == {"name": "net", "size": 3}
    assert found["provenance"] == {"file": str(tmp_path)}
    write_results(given, tmp_path)
    assert read_results(tmp_path / "results.json").settings == found["settings"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"settings": {"a": {"b": [0, np.zeros(2)]}}}, r"settings\.a\.b\[1\]"),
        ({"settings": {"a": {1, 2}}}, r"settings\.a"),
        ({"settings": {"a": 1j}}, r"settings\.a"),
        ({"settings": {"a": b"text"}}, r"settings\.a"),
        ({"settings": {1: 0, "1": 0}}, "settings"),
        ({"settings": {(1, 2): 0}}, "settings"),
        ({"model": {"name": "net", "device": torch.device("cpu")}}, r"model\.device"),
        ({"provenance": {"date": datetime(2026, 1, 1)}}, r"provenance\.date"),
        ({"timings": {"forward": np.ma.masked}}, r"timings\.forward"),
        ({"protocol": {"lock": threading.Lock()}}, r"protocol\.lock"),
        ({"settings": {"loss": torch.ones(1, requires_grad=True) * 2}}, r"settings\.loss"),
    ],
    ids=lambda value: value if isinstance(value, str) else "record",
)
def test_what_json_cannot_hold_is_named_by_its_key(changes, key, tmp_path):
    with pytest.raises(InputError, match=rf"^{key}: expected "):
        write_results(run(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_of_other_types_are_the_same_in_both_files():
    values = {"auroc": np.float32(0.1), "ap": torch.tensor(0.1, dtype=torch.float64), "fpr95": np.array(0.25)}
    score = replace(pixels(0.5, 0.5, 0.5), values=values, frames=np.int64(3))
    given = run(datasets=[DatasetResult("a", 3, "flat", {"msp": score})])
    found = json.loads(given.to_json())["datasets"][0]["scores"]["msp"]["values"]
    assert found == {"auroc": 0.10000000149011612, "ap": 0.1, "fpr95": 0.25}
    (row,) = csv.DictReader(io.StringIO(given.to_csv()))
    assert {name: float(row[name]) for name in found} == found
    assert row["frames"] == "3"


def test_results_need_a_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"out: expected a folder for the results, found a file"):
        write_results(run(), tmp_path / "out")


def edited(**changes):
    return json.dumps({**json.loads(run().to_json()), **changes})


def with_score(**changes):
    record = json.loads(run().to_json())
    record["datasets"][0]["scores"]["msp"].update(changes)
    return json.dumps(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (run().to_json()[:300], "truncated or not JSON"),
        ("", "truncated or not JSON"),
        ("[1, 2]", "expected the results of an evaluation"),
        ('{"images": []}', "expected the results of an evaluation"),
        (edited(format_version=99), "format version 5 or earlier, found 99; read them with the version"),
        (edited(extra=1), "expected an object with the keys"),
        (edited(datasets=None), "expected 'datasets' to be of type list"),
        (edited(datasets=[3]), "expected an object with the keys .* found int"),
        (edited(model={}), "expected a 'name'"),
        (edited(model=None), "expected 'model' to be of type dict"),
        (edited(closed_set={"miou": 0.5}), r"keys \['aacc', .* found \['miou'\]"),
        (with_score(values={"ap": "0.5"}), "expected 'ap' to be of type float, found '0.5'"),
        (with_score(confidence_intervals={"ap": [0.1]}), "expected 'ap' to be a list of two numbers"),
        (with_score(bounds={"ap": [0.1, "1"]}), "expected 'ap' to be of type float, found '1'"),
        (with_score(frames=None), "expected 'frames' to be of type int, found None"),
        (with_score(frames=True), "expected 'frames' to be of type int, found True"),
    ],
)
def test_cut_and_foreign_files_are_named(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.json: expected .* found no such file"):
        read_results(tmp_path / "gone.json")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match=r"picture\.png: "):
        read_results(tmp_path / "picture.png")


def test_a_model_has_a_name():
    with pytest.raises(InputError, match="'name'"):
        run(model={"config": "x.py"})


def rendered(result, width=120):
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(results_table(result))
    return console.file.getvalue()


def test_terminal_table_shows_percent_and_the_best_in_bold():
    text = rendered(run())
    rows = [line for line in text.splitlines() if "msp" in line or "gmm_nll" in line]
    assert len(rows) == 3

    def bold(value):
        return f"\x1b[1m{value}\x1b[0m"

    assert bold("91.23") in rows[0]
    assert bold("50.00") not in rows[0]
    assert bold("25.00") in rows[0]
    assert bold("80.00") not in rows[1]
    assert bold("62.50") in rows[1]
    assert bold("25.00") in rows[1]
    assert rows[2].count("nan") == 3
    assert all("42.10" in row for row in rows)
    assert "segformer" in text
    assert "42.10" not in rendered(run(closed_set=None))


def test_terminal_table_takes_names_literally():
    entry = DatasetResult("[red]set", 1, "flat", {"[bold]msp": pixels(0.5, 0.5, 0.5)})
    result = run(model={"name": "[/x]net"}, datasets=[entry])
    assert "[/x]net" in rendered(result)
    assert "[red]set" in rendered(result)
    assert "[bold]msp" in rendered(result)


def test_markdown_has_a_row_for_each_model_dataset_and_score():
    twin = run(
        model={"name": "twin"},
        closed_set=None,
        datasets=[DatasetResult("road_anomaly", 3, "official", {"msp": pixels(0.95, 0.1, 0.1)})],
    )
    assert results_markdown([run(), twin]).splitlines() == [
        "| dataset | model | score | frames | AUROC | AP | FPR95 | mIoU |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| road_anomaly | segformer | gmm_nll | 3 | 91.23 | 50.00 | 25.00 | 42.10 |",
        "| road_anomaly | segformer | msp | 3 | 80.00 | **62.50** | 25.00 | 42.10 |",
        "| road_anomaly | twin | msp | 3 | **95.00** | 10.00 | **10.00** | - |",
        "| empty | segformer | msp | 3 | nan | nan | nan | 42.10 |",
    ]


def test_markdown_keeps_runs_of_other_lengths_apart():
    short = run(
        model={"name": "short"},
        datasets=[DatasetResult("road_anomaly", 2, "official", {"msp": pixels(0.99, 0.99, 0.0)})],
    )
    rows = results_markdown([run(), short]).splitlines()
    assert "| road_anomaly | segformer | msp | 3 | 80.00 | **62.50** | **25.00** | 42.10 |" in rows
    assert "| road_anomaly | short | msp | 2 | **99.00** | **99.00** | **0.00** | 42.10 |" in rows


def rich_run():
    """One dataset with everything, and one that lacks the values of a threshold."""
    full = replace(
        pixels(0.9, 0.5, 0.25),
        confidence_intervals={"auroc": [0.85, 0.93]},
        components={"f1_mean": 0.2, "siou": 0.3, "ppv": math.nan, "threshold": 3.0},
        open_world={"open_miou": 0.4, "gap": 0.1},
        at_threshold={"threshold": 2.5, "tpr": 0.94, "fpr": 0.3},
    )
    plain = replace(pixels(0.8, 0.4, 0.5), components={"f1_mean": 0.1, "siou": 0.2, "ppv": 0.4, "threshold": 1.0})
    return run(datasets=[DatasetResult("a", 3, "flat", {"msp": full}), DatasetResult("b", 3, "flat", {"msp": plain})])


def test_terminal_shows_intervals_and_a_second_table_within_80_columns():
    lines = [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", rendered(rich_run(), 80)).splitlines()]
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    rows = [line.split() for line in lines]
    assert ["a", "msp", "3", "90.0", "50.00", "25.00", "42.10"] in rows
    assert ["[85.0-93.0]"] in rows
    assert ["dataset", "score", "F1*", "sIoU", "PPV", "TPR@t", "FPR@t", "open", "mIoU", "gap"] in rows
    assert ["a", "msp", "20.00", "30.00", "nan", "94.00", "30.00", "40.00", "10.00"] in rows
    assert ["b", "msp", "10.00", "20.00", "40.00", "-", "-", "-", "-"] in rows


def test_states_of_any_two_names_have_files_of_their_own():
    names = [("a", "b.c"), ("a.b", "c"), ("../out", "c"), ("my/set", "c"), ("a", "c")]
    files = [state_name(*each) for each in names]
    assert len(set(files)) == len(names)
    assert not any("/" in name for name in files)
    assert state_name("road_anomaly-second", "msp") == "road_anomaly-second.msp.npz"
