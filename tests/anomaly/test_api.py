"""What people import: evaluation, single score maps, comparison and verification in a call each, and results."""

import json
import shutil
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import anomaly
from anomaly import InputError, TorchModel
from anomaly.api import choose_scores
from anomaly.datasets.catalog import load_dataset
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.evaluator import calibrate, evaluate
from anomaly.metrics import PixelMetrics
from anomaly.metrics.bootstrap import FrameTable, paired_bootstrap
from anomaly.postprocessing.table import parse_chain
from anomaly.results.frames import paired_frame
from anomaly.scores.registry import SCORES, get_scores
from anomaly.visualize.heatmaps import HeatmapCallback
from tests.anomaly import set_trees
from tests.anomaly.test_evaluator import make_dataset

ROOT = Path(__file__).resolve().parents[2]
DRAWS = 100
USUAL = ["msp", "max_logit", "entropy", "energy"]


class Net(nn.Module):
    """Logits of four classes from the colours, at half the resolution."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return {"out": 8 * self.layer(F.avg_pool2d(images, 2))}


def model_of(seed=0):
    return anomaly.TorchModel(Net(seed), output="out", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), device="cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two datasets of the catalogue, of six and of five images."""
    root = tmp_path_factory.mktemp("data")
    make_dataset(root)
    make_dataset(root, "street_scenes", frames=5, values=(0, 2, 0, 0), first=50)
    return root


@pytest.fixture(scope="module")
def dataset(root):
    return anomaly.load_dataset("road_anomaly", root)


@pytest.fixture(scope="module")
def result(dataset):
    return anomaly.evaluate(model_of(), dataset, scores=["energy", "msp"], metrics=MetricConfig(replicates=20))


@pytest.fixture(scope="module")
def other(dataset):
    """Another network on the same dataset."""
    return anomaly.evaluate(model_of(7), dataset, "energy")


def test_names_are_there_and_nothing_is_loaded_before_they_are_used():
    assert [name for name in anomaly.__all__ if not hasattr(anomaly, name)] == []
    assert set(anomaly.__all__) <= set(dir(anomaly))
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = anomaly.absent
    code = "import sys, anomaly; print(sorted({'torch', 'cv2', 'pandas', 'mmseg', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# evaluate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "names"),
    [
        (lambda root: "road_anomaly", ["road_anomaly"]),
        (lambda root: load_dataset("road_anomaly", root), ["road_anomaly"]),
        (lambda root: ["street_scenes", "road_anomaly"], ["street_scenes", "road_anomaly"]),
        (lambda root: (load_dataset("road_anomaly", root), "street_scenes"), ["road_anomaly", "street_scenes"]),
        (lambda root: "road_anomaly-first", ["road_anomaly-first"]),
    ],
    ids=["a name", "a dataset", "names", "both", "a half"],
)
def test_one_dataset_or_several_by_name_or_not(root, data, names):
    found = anomaly.evaluate(model_of(), data(root), "energy", root=root, report_images=0)
    expected = evaluate(model_of(), [load_dataset(name, root) for name in names], get_scores(["energy"]))
    assert found.datasets == expected
    assert anomaly.evaluate(model_of(), data(root), "energy", root=str(root), report_images=0).datasets == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scores", "names"),
    [
        (None, USUAL),
        ("energy", ["energy"]),
        (["msp", "energy"], ["msp", "energy"]),
        (("energy:temperature=2",), ["energy:temperature=2"]),
        (SCORES["gen"], ["gen"]),
        ([SCORES["gen"], "msp"], ["gen", "msp"]),
        ("all", [name for name, score in SCORES.items() if score.needs == ("logits",) and not score.fitted]),
    ],
    ids=str,
)
def test_one_score_or_several_by_name_or_not(dataset, scores, names):
    (entry,) = anomaly.evaluate(model_of(), dataset, scores, report_images=0).datasets
    assert list(entry.scores) == names
    (expected,) = evaluate(model_of(), [dataset], get_scores(names))
    assert entry == expected


def test_a_model_with_a_density_of_outliers_has_its_score_by_default():
    gives = ("logits", "class_log_likelihood", "outlier_log_likelihood")
    plain, outliers = (
        choose_scores(TorchModel(lambda images: images, gives=names), None) for names in (gives[:2], gives)
    )
    assert [score.name for score in plain] == ["gmm_nll", *USUAL]
    assert [score.name for score in outliers] == ["gmm_nll", "outlier_ratio", *USUAL]


def test_a_score_function_has_its_own_score(dataset):
    def brightness(image):
        return image.mean(2)

    for scores in (None, "brightness", "all"):
        (entry,) = anomaly.evaluate(brightness, dataset, scores, report_images=0).datasets
        assert list(entry.scores) == ["brightness"]


def test_a_module_is_a_model(dataset):
    class Plain(Net):
        def forward(self, images):
            return super().forward(images)["out"]

    with pytest.warns(UserWarning, match="Plain: no normalisation given"):
        found = anomaly.evaluate(Plain(), dataset, "msp", report_images=0)
    assert found.record.model["name"] == "Plain"


def test_limit_postprocessing_inference_and_metrics(dataset):
    found = anomaly.evaluate(
        model_of(),
        dataset,
        "energy",
        limit=4,
        postprocessing=["none", "smooth:sigma=1"],
        inference=anomaly.Inference(flip=True),
        metrics=MetricConfig(tpr=0.8),
        report_images=0,
    )
    expected = evaluate(
        model_of(),
        [dataset.limit(4)],
        get_scores(["energy"]),
        post=[parse_chain("none"), parse_chain("smooth:sigma=1")],
        inference=anomaly.Inference(flip=True),
        config=MetricConfig(tpr=0.8),
    )
    assert found.datasets == expected
    assert found.record.settings["limit"] == 4
    assert found.record.settings["inference"]["flip"] is True


@pytest.mark.slow
@pytest.mark.parametrize("by_name", [True, False])
def test_thresholds_are_chosen_on_one_dataset_and_measured_on_another(root, dataset, by_name):
    other = "street_scenes" if by_name else load_dataset("street_scenes", root)
    found = anomaly.evaluate(
        model_of(), dataset, "energy", root=root, calibrate_on=other, calibrate_by="fpr=0.2", report_images=0
    )
    calibration = Calibration(load_dataset("street_scenes", root), "fpr", 0.2)
    (threshold,) = calibrate(model_of(), calibration, get_scores(["energy"])).values()
    at = found.datasets[0].scores["energy"].at_threshold
    assert at["threshold"] == threshold.value
    metrics = PixelMetrics()
    for frame in dataset:
        metrics.update(frame.id, anomaly.score(model_of(), frame.image, "energy"), frame.label)
    (tp,), (fp,) = metrics.counts_at([threshold.value])
    assert (at["tpr"], at["fpr"]) == (tp / metrics.num_anomaly, fp / metrics.num_known)


def test_callbacks_and_progress_are_told(dataset):
    frames, stages = [], []

    class Told(anomaly.Callback):
        def on_frame(self, frame):
            frames.append(frame.frame.id)

    def progress(what, total):
        stages.append((what, total))
        return lambda: frames.append(what)

    anomaly.evaluate(model_of(), dataset, "energy", callbacks=[Told()], progress=progress, report_images=0)
    assert set(stages) == {("labels", 6), ("road_anomaly", 6)}
    assert sorted(frames) == sorted(["labels"] * 6 + ["road_anomaly"] * 6 + [f"f{i}" for i in range(6)])


def test_heatmaps_are_a_callback_and_their_scales_are_recorded(dataset, tmp_path):
    with HeatmapCallback(tmp_path) as heatmaps:
        found = anomaly.evaluate(model_of(), dataset, ["energy", "msp"], callbacks=[heatmaps], report_images=0)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert files == [f"road_anomaly/{score}/f{i}.png" for score in ("energy", "msp") for i in range(6)]
    assert found.record.settings["heatmaps"] == "all"
    assert found.record.settings["colour_scales"] == heatmaps.colour_scales
    assert heatmaps.colour_scales.keys() == {"energy", "msp"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": "enrgy"}, "unknown score 'enrgy'; the scores are energy"),
        ({"scores": ["energy", "energy"]}, "scores of different names, found 'energy' 2 times"),
        ({"scores": "gmm_nll"}, "'gmm_nll' needs the network's class_log_likelihood .* gives only logits"),
        ({"scores": "knn"}, "'knn' needs the network's features"),
        ({"scores": "outlier_ratio"}, r"'outlier_ratio' needs the network's outlier_log_likelihood \(only densities"),
        ({"data": "road_anomly"}, "unknown dataset 'road_anomly'; give one of .* road_anomaly"),
        ({"data": 3}, "data: expected a dataset or its name, found int"),
        ({"data": []}, "expected at least one dataset, .*found none"),
        ({"model": "nothing"}, "model: expected a config and a checkpoint, .* or file.py:name, found 'nothing'"),
        ({"postprocessing": "smoth"}, "smoth"),
        ({"calibrate_on": "street_scenes", "calibrate_by": "fpr=2"}, "fpr"),
        ({"limit": 0}, "limit"),
        ({"report_images": -1}, "frames of the report: expected 1 or more"),
        ({"model": "gone.npz"}, "gone.npz: expected the state of what was fitted to training images, found no such"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(root, arguments, message):
    with pytest.raises(InputError, match=message):
        anomaly.evaluate(**{"model": model_of(), "data": "road_anomaly", "root": root, **arguments})


# score


def test_a_score_map_of_an_image_and_of_its_file(dataset, tmp_path):
    image = dataset.image(0)
    path = set_trees.write(tmp_path / "image.png", image)
    found = anomaly.score(model_of(), image, "energy")
    model = model_of()
    with torch.no_grad():
        logits = Net()(model.prepare(image)[None])["out"]
    expected = F.interpolate(-logits.logsumexp(1)[None], image.shape[:2], mode="bilinear")[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32
    for given in (path, str(path)):
        np.testing.assert_array_equal(anomaly.score(model, given, SCORES["energy"]), found)
    np.testing.assert_array_equal(anomaly.score(model, image), anomaly.score(model, image, "msp"))


def test_a_score_of_a_score_function(dataset):
    np.testing.assert_allclose(anomaly.score(lambda image: image[..., 0], dataset.image(1)), dataset.image(1)[..., 0])


@pytest.mark.parametrize(
    ("image", "score", "message"),
    [
        (np.zeros((4, 6, 3), np.float32), "msp", "expected an RGB image"),
        (np.zeros((4, 6), np.uint8), "msp", "expected an RGB image"),
        ("gone.png", "msp", "gone.png"),
        (np.zeros((4, 6, 3), np.uint8), "mps", "unknown score 'mps'"),
        (np.zeros((4, 6, 3), np.uint8), "gmm_nll", "'gmm_nll' needs the network's class_log_likelihood"),
    ],
)
def test_what_cannot_be_scored_is_refused(image, score, message):
    with pytest.raises(InputError, match=message):
        anomaly.score(model_of(), image, score)


# Result


def test_a_result_prints_as_its_table_and_in_a_line(result):
    lines = str(result).splitlines()
    values = {name: score.values for name, score in result.datasets[0].scores.items()}
    for name in ("energy", "msp"):
        (line,) = [line for line in lines if name in line.split()]
        cells = line.split()
        assert cells[:3] == (["road_anomaly", name, "6"])
        assert cells[3:6] == [f"{100 * values[name][metric]:.1f}" for metric in ("auroc", "ap", "fpr95")]
    assert repr(result) == "<Result of Net on road_anomaly>"
    assert result.closed_set is None
    assert "<table" in result._repr_html_()


def test_a_result_tells_what_has_to_be_known_of_it(dataset):
    found = anomaly.evaluate(lambda image: np.zeros(image.shape[:2]), dataset)
    assert "\nnote: road_anomaly, score: all values are equal (0)" in str(found)


def test_a_result_is_a_data_frame(root, result):
    both = anomaly.evaluate(model_of(), ["road_anomaly", "street_scenes"], ["energy", "msp"], root=root)
    frame = both.to_frame()
    assert list(frame[["model", "dataset", "score"]].itertuples(index=False, name=None)) == [
        ("Net", dataset, score) for dataset in ("road_anomaly", "street_scenes") for score in ("energy", "msp")
    ]
    for row in frame.itertuples():
        (entry,) = [entry for entry in both.datasets if entry.dataset == row.dataset]
        assert row.ap == entry.scores[row.score].values["ap"]
        assert row.frames == entry.frames
    with_intervals = result.to_frame().iloc[0]
    assert [with_intervals.ap_low, with_intervals.ap_high] == result.datasets[0].scores["energy"].confidence_intervals[
        "ap"
    ]


def test_a_result_is_saved_and_loaded_with_its_report(result, tmp_path):
    path = result.save(tmp_path / "new" / "out")
    assert path == tmp_path / "new/out/results.json"
    assert sorted(file.name for file in path.parent.iterdir()) == ["report", "results.csv", "results.json"]
    assert pd.read_csv(path.parent / "results.csv").ap.tolist() == result.to_frame().ap.tolist()
    for place in (path, str(path.parent)):
        loaded = anomaly.Result.load(place)
        assert loaded.record == result.record
        pages = [one.report(tmp_path / f"{i}.html").read_text() for i, one in enumerate((result, loaded))]
        assert shown(pages[0]) == shown(pages[1])
    for one in (result, anomaly.Result.load(path)):  # over what is there, and over itself
        one.save(path.parent)
        assert anomaly.Result.load(path).record == result.record
        assert sum(1 for _ in (path.parent / "report").rglob("*.npz")) == 7


class Texts(HTMLParser):
    """All texts of a page, and what its scripts hold."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_data(self, data):
        self.found.append(data.strip())


def shown(page):
    parser = Texts()
    parser.feed(page)
    return [text for text in parser.found if text]


def test_a_report_shows_some_images_of_each_dataset(root, tmp_path):
    found = anomaly.evaluate(model_of(), ["road_anomaly", "street_scenes"], "energy", root=root, report_images=3)
    path = found.report(tmp_path / "deep" / "report.html")
    text = path.read_text()
    assert found.save(tmp_path / "out").is_file()
    assert sorted(file.relative_to(tmp_path / "out").as_posix() for file in tmp_path.rglob("report/**/*.npz")) == [
        f"report/{name}/{file}.npz"
        for name in ("road_anomaly", "street_scenes")
        for file in ("0000", "0001", "0002", "set")
    ]
    assert "road_anomaly" in text
    assert "street_scenes" in text
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_needs_views_and_a_name(result, dataset, tmp_path):
    without = anomaly.evaluate(model_of(), dataset, "energy", report_images=0)
    with pytest.raises(InputError, match="report: expected kept images, found none; evaluate with report_images"):
        without.report(tmp_path / "report.html")
    without.save(tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["results.csv", "results.json"]
    for path in (tmp_path, tmp_path / "report", "report.pdf"):
        with pytest.raises(InputError, match=r"report: expected a file name that ends in \.html"):
            result.report(path)


def test_views_last_as_long_as_the_result(dataset, tmp_path):
    found = anomaly.evaluate(model_of(), dataset, "energy")
    folder = found._views
    assert folder.is_dir()
    found.report(tmp_path / "report.html")
    del found
    assert not folder.exists()


def edited(result, folder, **changes):
    path = result.save(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_what_cannot_be_loaded_is_refused(result, tmp_path):
    future = edited(result, tmp_path / "future", format_version=99)
    for call in (
        anomaly.Result.load,
        anomaly.compare,
        lambda path: anomaly.verify(path, model_of()),
    ):
        with pytest.raises(InputError, match=r"results\.json: expected .*format version 5 or earlier, found 99"):
            call(future)
    with pytest.raises(InputError, match=r"gone/results\.json|gone: expected"):
        anomaly.Result.load(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        anomaly.Result.load(tmp_path / "empty")


# compare


def test_results_side_by_side(result, other, tmp_path):
    path = other.save(tmp_path / "out")
    for second in (other, path, str(path.parent)):
        frame = anomaly.compare(result, second)
        assert list(frame.score) == ["energy", "msp", "energy"]
        assert frame.model.nunique() == 2  # both are called Net
        assert all(name.startswith("Net (") for name in frame.model)
        expected = [*(one.values["ap"] for one in result.datasets[0].scores.values())]
        assert frame.ap.tolist() == [*expected, other.datasets[0].scores["energy"].values["ap"]]
    assert list(anomaly.compare(result).model) == ["Net", "Net"]


def tables_of(model, dataset, scores):
    """Each frame's scores, given to the metrics one by one."""
    found = {}
    for name in scores:
        metrics = PixelMetrics(name)
        for frame in dataset:
            metrics.update(frame.id, anomaly.score(model, frame.image, name), frame.label)
        found[name] = FrameTable.of(metrics)
    return found


@pytest.fixture
def few_draws(monkeypatch):
    """Paired comparisons by fewer draws than 2000."""
    monkeypatch.setattr("anomaly.api.paired_frame", partial(paired_frame, replicates=DRAWS))


def test_what_differs_between_results(result, other, dataset, few_draws):
    frame = anomaly.compare(result, other, paired=True)
    assert list(frame.columns) == ["dataset", "method", "minus", "metric", "difference", "low", "high", "p_value"]
    assert set(frame.dataset) == {"road_anomaly"}
    assert list(dict.fromkeys(frame.minus)) == ["Net (1) energy"]
    assert list(dict.fromkeys(frame.method)) == ["Net (1) msp", "Net (2) energy"]
    assert list(dict.fromkeys(frame.metric)) == ["auroc", "ap", "fpr95"]
    mine, theirs = tables_of(model_of(), dataset, ["energy", "msp"]), tables_of(model_of(7), dataset, ["energy"])
    expected = {
        "Net (1) msp": paired_bootstrap(mine["msp"], mine["energy"], replicates=DRAWS),
        "Net (2) energy": paired_bootstrap(theirs["energy"], mine["energy"], replicates=DRAWS),
    }
    for row in frame.itertuples():
        found = expected[row.method][row.metric]
        assert row.difference == pytest.approx(found.difference, abs=1e-9)
        assert (row.low, row.high) == pytest.approx((found.interval.low, found.interval.high), abs=1e-9)


def test_a_paired_comparison_needs_the_counts_of_every_frame(result, other, dataset, tmp_path, few_draws):
    for without in (anomaly.evaluate(model_of(7), dataset, "energy", report_images=0), other.save(tmp_path / "out")):
        with pytest.raises(InputError, match=r"counts of every frame|every pixel's score"):
            anomaly.compare(result, without, paired=True)
    config = MetricConfig(states=tmp_path / "kept/states")
    (tmp_path / "kept").mkdir()
    kept = anomaly.evaluate(model_of(7), dataset, "energy", metrics=config, report_images=0)
    frame = anomaly.compare(other, kept.save(tmp_path / "kept"), paired=True)
    assert (frame.difference == 0).all()  # the same network, from counts in memory and from the file


def test_what_is_not_comparable_is_refused(result, root, dataset):
    with pytest.raises(InputError, match="expected at least one result to compare, found none"):
        anomaly.compare()
    part = anomaly.evaluate(model_of(7), dataset, "energy", limit=4)
    for paired in (False, True):
        with pytest.raises(InputError, match=r"road_anomaly: .* found 6 and 4 frames"):
            anomaly.compare(result, part, paired=paired)


# verify


@pytest.mark.parametrize("by", ["the result", "its file", "names below a folder", "datasets"])
def test_a_result_comes_out_again(result, root, dataset, tmp_path, by):
    given = result.save(tmp_path / "out") if by == "its file" else result
    arguments = {"data": dataset} if by in ("datasets", "its file", "the result") else {"root": root}
    found = anomaly.verify(given, model_of(), **arguments)
    assert found
    assert found.missing == []
    assert "DIFFERS" not in str(found)
    assert str(found).endswith("the result comes out again")


def test_the_settings_of_a_record_are_repeated(root, dataset, tmp_path):
    found = anomaly.evaluate(
        model_of(),
        "road_anomaly",
        "energy:temperature=2",
        root=root,
        limit=5,
        postprocessing=["none", "smooth:sigma=1"],
        inference=anomaly.Inference(window=(16, 16), flip=True),
        metrics=MetricConfig(replicates=10, tpr=0.9),
        calibrate_on="street_scenes",
        calibrate_by="fpr=0.1",
    )
    assert anomaly.verify(found.save(tmp_path / "out"), model_of(), root=root)


def test_a_result_does_not_come_out_again(result, dataset, tmp_path):
    """Of another network, and of a record that says another number."""
    found = anomaly.verify(result, model_of(7), dataset)
    assert not found
    assert "road_anomaly, energy: DIFFERS" in str(found)
    assert str(found).endswith("the result does NOT come out again")
    record = json.loads(result.record.to_json())
    record["datasets"][0]["scores"]["msp"]["values"]["ap"] += 1e-4
    path = tmp_path / "results.json"
    path.write_text(json.dumps(record))
    found = anomaly.verify(path, model_of(), dataset)
    assert [one.what for one in found.agreements if one.faults] == ["road_anomaly, msp"]
    assert not found
    assert anomaly.verify(path, model_of(), dataset, tolerance=1e-3)


def test_datasets_of_ones_own_have_to_be_given(dataset, tmp_path):
    for i in range(3):
        set_trees.write(tmp_path / f"mine/images/{i}.png", dataset.image(i))
        set_trees.write(tmp_path / f"mine/labels/{i}.png", dataset.frame(i).label)
    values = {0: "known", 1: "anomaly"}
    mine = anomaly.from_folders(tmp_path / "mine/images", str(tmp_path / "mine/labels"), values)
    found = anomaly.evaluate(model_of(), mine, "energy", report_images=0)
    assert anomaly.verify(found, model_of(), mine)
    with pytest.raises(InputError, match="data: expected the datasets mine, which are not in the catalogue"):
        anomaly.verify(found, model_of())


def test_a_dataset_prints_in_a_line(dataset):
    assert "\n" not in repr(dataset)
    assert "road_anomaly" in repr(dataset)


def test_results_are_not_changed_by_what_is_asked_of_them(result, tmp_path):
    before = result.record.to_json()
    str(result), result.to_frame(), result.save(tmp_path / "out"), result.report(tmp_path / "r.html")
    shutil.rmtree(tmp_path / "out")
    assert result.record.to_json() == before


def test_another_model_is_found_out_though_its_file_has_the_same_name(root):
    dataset = load_dataset("road_anomaly", root)
    first = anomaly.evaluate(model_of(), dataset, "energy", report_images=0)
    other = anomaly.TorchModel(
        lambda images: torch.cat([images, -images], 1), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    told = str(anomaly.verify(first, other, dataset))
    assert "model and its files: DIFFERS" in told
    assert "std: recorded" in told


def test_a_table_has_numbers_where_miou_was_not_measured(root):
    table = anomaly.evaluate(model_of(), "road_anomaly", "energy", root=root, report_images=0).to_frame()
    assert table["miou"].isna().all()
    assert table["miou"].dtype == float
