"""Former names of scores: refused where somebody types one, understood where a file holds one."""

import json
import shutil

import numpy as np
import pytest

import anomaly
from anomaly.cli.compare import compare_paired
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.errors import InputError
from anomaly.report.glossary import explain_scores
from anomaly.results.records import read_results
from anomaly.scores import SCORES, get_scores
from anomaly.scores.registry import COMBINATIONS, FORMER, current_name
from study_record import in_current_names
from tests.commands import status_of

FORMERLY, NOW = "likelihood_ratio", "likelihood_margin"
MODEL = """
import anomaly

def likelihoods(images):
    logits = 6 * images
    return {"logits": logits, "class_log_likelihood": -40 * (images - 0.3).square()}

plain = {"mean": (0, 0, 0), "std": (1, 1, 1)}
model = anomaly.TorchModel(likelihoods, gives=("logits", "class_log_likelihood"), device="cpu", **plain)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a dataset, score maps of it, and a result with the states of its scores, under the current name."""
    folder = tmp_path_factory.mktemp("former")
    (folder / "net.py").write_text(MODEL)
    write_street_scenes(folder / "data/street_scenes", train=0, val=0, open_world=3, size=(48, 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        where = ("--model", "net.py:model", "--data", "street_scenes", "--scores", NOW, "--no-closed-set")
        options = ("--post", "none", "smooth:sigma=1", "--save-scores", "maps", "--save-states", "--heatmaps", "none")
        assert status_of("anomaly evaluate", *where, *options, "--out", "new") == 0
    return folder


@pytest.fixture(scope="module")
def old(folder):
    """The same result and maps as a version wrote them that knew the score by its former name."""
    shutil.copytree(folder / "new", folder / "old")
    for file in (folder / "old").glob("results.*"):
        file.write_text(file.read_text().replace(NOW, FORMERLY))
    for file in (folder / "old/states").iterdir():
        metrics = anomaly.metrics.PixelMetrics.load(file)
        metrics.name = metrics.name.replace(NOW, FORMERLY)
        metrics.save(file.with_name(file.name.replace(NOW, FORMERLY)))
        file.unlink()
    shutil.copytree(folder / "maps", folder / "old_maps")
    (folder / f"old_maps/street_scenes/{NOW}").rename(folder / f"old_maps/street_scenes/{FORMERLY}")
    lines = folder / "old_maps/street_scenes/images.jsonl"
    lines.write_text(lines.read_text().replace(NOW, FORMERLY))
    return folder / "old/results.json"


@pytest.mark.parametrize("name", FORMER)
def test_each_former_name_stands_for_a_score_of_today(name):
    assert name not in {**SCORES, **COMBINATIONS}
    assert FORMER[name] in SCORES


@pytest.mark.parametrize(
    ("recorded", "current"),
    [
        (FORMERLY, NOW),
        (f"{FORMERLY}+smooth:sigma=2", f"{NOW}+smooth:sigma=2"),
        (f"rank_average:of=gmm_nll+{FORMERLY}", f"rank_average:of=gmm_nll+{NOW}"),
        (f"my_{FORMERLY}", f"my_{FORMERLY}"),
        ("energy:temperature=2", "energy:temperature=2"),
    ],
)
def test_the_current_name_of_a_recorded_one(recorded, current):
    assert current_name(recorded) == current


@pytest.mark.parametrize("text", [FORMERLY, f"{FORMERLY}:k=1", f"rank_average:of=gmm_nll+{FORMERLY}"])
def test_a_former_name_that_is_typed_is_refused_with_the_current_one(text):
    with pytest.raises(InputError, match=f"score '{FORMERLY}': it is now called '{NOW}'; use that name"):
        get_scores([text])


def test_a_former_name_on_the_command_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = ("--model", "net.py:model", "--data", "street_scenes", "--scores", FORMERLY, "--out", "never")
    assert status_of("anomaly evaluate", *words) == 2
    assert f"it is now called '{NOW}'" in capsys.readouterr().err


def test_a_function_of_a_former_name_keeps_it(folder):
    def likelihood_ratio(image):
        return image[..., 0].astype(np.float32)

    data = anomaly.load_dataset("street_scenes", root=folder / "data")
    result = anomaly.evaluate(likelihood_ratio, data, FORMERLY)
    assert list(result.record.datasets[0].scores) == [FORMERLY]
    assert anomaly.verify(result, likelihood_ratio, data)


def test_an_old_result_is_read_and_printed(old):
    result = anomaly.Result.load(old)
    names = [FORMERLY, f"{FORMERLY}+smooth:sigma=1"]
    assert list(result.record.datasets[0].scores) == names
    assert all(name in str(result) for name in names)
    (explained,) = explain_scores(names)
    assert explained.description.startswith(SCORES[NOW].description)
    assert NOW in explained.description


def test_an_old_result_is_compared_with_a_new_one(old, folder, capsys):
    assert status_of("anomaly compare", old, folder / "new/results.json") == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "likelihood" in line]
    values = {row[2].strip("` "): row[4:] for row in rows if row[0].startswith("| street_scenes")}
    assert values[FORMERLY] == values[NOW]
    compare_paired([old])
    assert FORMERLY in capsys.readouterr().out


@pytest.mark.parametrize("maps", [None, "maps", "old_maps"])
@pytest.mark.parametrize("record", ["old", "new"])
def test_a_result_is_verified_whichever_names_it_and_its_maps_have(old, folder, monkeypatch, capsys, record, maps):
    monkeypatch.chdir(folder)
    source = ("--model", "net.py:model") if maps is None else ("--predictions", maps)
    assert status_of("anomaly verify", f"{record}/results.json", *source) == 0
    printed = capsys.readouterr().out
    assert f"street_scenes, {NOW}: matches" in printed
    assert printed.endswith("the result comes out again\n")


def test_an_old_result_that_was_forged_is_found_out(old, folder, tmp_path):
    record = json.loads(old.read_text())
    record["datasets"][0]["scores"][FORMERLY]["values"]["ap"] = 0.987
    (tmp_path / "results.json").write_text(json.dumps(record))
    model = anomaly.load_model(f"{folder / 'net.py'}:model")
    found = anomaly.verify(tmp_path / "results.json", model, root=folder / "data")
    assert not found
    assert "ap: recorded 0.987, found" in str(found)
    assert anomaly.verify(old, model, root=folder / "data")


@pytest.mark.parametrize("name", [FORMERLY, NOW])
def test_old_maps_are_evaluated_by_either_name(old, folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    words = ("--predictions", "old_maps", "--data", "street_scenes", "--scores", name, "--heatmaps", "none")
    assert status_of("anomaly evaluate", *words, "--out", f"again_{name}") == 0
    found, expected = (read_results(path).datasets[0].scores for path in (folder / f"again_{name}/results.json", old))
    assert found[FORMERLY].values == expected[FORMERLY].values


def test_a_study_of_former_names_is_shown_under_the_current_ones():
    scores = {FORMERLY: {"ap": 0.5}, f"{FORMERLY}+guided:radius=8": {"ap": 0.6}, "msp": {"ap": 0.1}}
    study = {"networks": {"gmmseg": [{"seed": 0, "sets": {"camvid_ood": scores}}]}, "sets": ["camvid_ood"]}
    found = in_current_names(study)["networks"]["gmmseg"][0]["sets"]["camvid_ood"]
    assert found == {NOW: {"ap": 0.5}, f"{NOW}+guided:radius=8": {"ap": 0.6}, "msp": {"ap": 0.1}}
