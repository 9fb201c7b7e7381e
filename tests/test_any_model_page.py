"""docs/any_model.md: its commands run, and the messages that it quotes are those that people get."""

import json
import re
import shlex
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import anomaly
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.models.views import predict_inputs
from tests.anomaly import tiny_huggingface as tiny
from tests.commands import status_of

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "any_model.md").read_text()
ROAD = ("road", "sidewalk")
NORMALISED = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.M | re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the page's dataset."""
    folder = tmp_path_factory.mktemp("page")
    write_street_scenes(folder / "example" / "street_scenes", train=0, val=0, open_world=6, size=(96, 128))
    return folder


@pytest.mark.slow
def test_every_command_of_the_page_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    (net,) = [block for block in blocks("python") if block.startswith("# net.py")]
    Path("net.py").write_text(net)
    (maps,) = [block for block in blocks("python run") if "np.save" in block]
    exec(maps, {})
    commands = [line for block in blocks("shell") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        program, subcommand, *words = shlex.split(command)
        assert status_of(f"{program} {subcommand}", *words) == 0, command
    for name in ("network", "darkness", "maps"):
        assert Path("out", name, "report.html").is_file()


@pytest.mark.parametrize(("start", "most"), [("import torch", 15), ("import anomaly", 10)])
def test_the_first_examples_are_short(start, most):
    """From the import to the report, without the user's own module or function."""
    block = next(block for block in blocks("python run") if block.startswith(start))
    own = re.sub(r"^(class|def) .*?(?=^\S)", "", block, flags=re.M | re.S)
    joined = re.sub(r"TorchModel\(.*?\n\)", "TorchModel()", own, flags=re.S)
    assert "report(" in joined
    assert len([line for line in joined.splitlines() if line.strip()]) <= most


class TwoHeads(torch.nn.Module):
    """Gives a dict whose entries have names of their own."""

    def forward(self, images):
        logits = torch.cat([images, -images[:, :1]], dim=1)
        return {"main": logits, "aux": logits}


def flat(image):
    return image.mean(axis=2).ravel()


def undefined(image):
    return np.full(image.shape[:2], np.nan)


def reversed_score(image):
    return image[..., 1]


def model_of(**options):
    return anomaly.TorchModel(TwoHeads(), **{**NORMALISED, **options})


def evaluate(model, place, scores=None, limit=None, report_images=0):
    data = anomaly.load_dataset("street_scenes", root=place / "example")
    return anomaly.evaluate(model, data, scores, limit=limit, report_images=report_images)


def own_folders(place):
    """The frames as two folders, the label values not declared."""
    for kind, source in (("images", "*.jpg"), ("labels", "*/labels_semantic.png")):
        (place / "own" / kind).mkdir(parents=True)
        for path in (place / "example/street_scenes/open_world/frames").glob(source):
            name = path.name if kind == "images" else f"{path.parent.name.removesuffix('.labels')}.png"
            (place / "own" / kind / name).write_bytes(path.read_bytes())
    return anomaly.from_folders(place / "own" / "images", place / "own" / "labels")


def tiny_folder(place, change):
    """A folder of ``save_pretrained``, changed."""
    folder = tiny.write_network(place / change.__name__, "segformer")
    change(folder)
    return folder


def without_processor(folder):
    (folder / "preprocessor_config.json").unlink()


def of_classification(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["SegformerForImageClassification"]}))


def without_the_hub(place):
    from huggingface_hub import constants

    online, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        return anomaly.load_model("some/ID")
    finally:
        constants.HF_HUB_OFFLINE = online


class Masks(torch.nn.Module):
    def forward(self, images):
        prob = torch.full((len(images), 3, 5), 0.2)
        return {"query_class_prob": prob, "mask_logits": images}


class Greedy(torch.nn.Module):
    def forward(self, images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images[:, :2, ::64, ::64]


def of_a_large_batch(place):
    model = anomaly.TorchModel(Greedy(), device="cpu", **NORMALISED)
    return predict_inputs(model, torch.zeros(8, 3, 1024, 2048), anomaly.Inference(batch=8))


def of_other_classes(place):
    data = replace(anomaly.load_dataset("street_scenes", root=place / "example"), name="cityscapes-val", classes=ROAD)
    return anomaly.evaluate(model_of(output="main"), replace(data, name="other"), closed_set=data, report_images=0)


WRONG = {
    "hub id": without_the_hub,
    "without an image processor": lambda place: anomaly.load_model(tiny_folder(place, without_processor)),
    "classification network": lambda place: anomaly.load_model(tiny_folder(place, of_classification)),
    "ask a mask classifier": lambda place: evaluate(
        anomaly.TorchModel(Masks(), gives=("query_class_prob", "mask_logits"), **NORMALISED), place, "msp"
    ),
    "on other classes": of_other_classes,
    "pass a module that returns a dict": lambda place: evaluate(model_of(), place),
    "name an entry": lambda place: evaluate(model_of(output="logits"), place),
    "one output channel": lambda place: evaluate(anomaly.TorchModel(torch.nn.Conv2d(3, 1, 1), **NORMALISED), place),
    "too few classes": lambda place: evaluate(model_of(output="main", classes=["a", "b"]), place),
    "leave `mean`": lambda place: anomaly.TorchModel(TwoHeads()),
    "that is random": lambda place: evaluate(
        anomaly.TorchModel(lambda images: torch.nn.functional.dropout(torch.cat([images, images], dim=1))), place
    ),
    "misspell a score": lambda place: evaluate(model_of(output="main"), place, "energie"),
    "does not allow": lambda place: evaluate(model_of(output="main"), place, "gmm_nll"),
    "something else": lambda place: evaluate(flat, place),
    "more memory": of_a_large_batch,
    "return NaN": lambda place: evaluate(undefined, place),
    "lower scores": lambda place: evaluate(reversed_score, place),
    "not on disk": lambda place: anomaly.load_dataset("road_anomaly", root=place),
    "label values out": own_folders,
    "other images": lambda place: anomaly.compare(
        evaluate(reversed_score, place), evaluate(reversed_score, place, limit=3)
    ),
    "without images": lambda place: evaluate(reversed_score, place).report(place / "none.html"),
}


def test_every_mistake_of_the_page_is_tried():
    rows = re.findall(
        r"^\| (.*?) \| (?:a warning: |a note under the table: )?`", PAGE.partition("| you did |")[2], re.M
    )
    assert len(rows) == len(WRONG)


@pytest.mark.parametrize("mistake", WRONG)
def test_the_page_quotes_the_message(mistake, place):
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| ") and mistake in line.split(" | ")[0]]
    quoted = row.split(" | ", 1)[1].split("`")[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            said = str(WRONG[mistake](place))
        except anomaly.InputError as error:
            said = str(error)
    said = " ".join([said, *(str(one.message) for one in caught)])
    at = 0
    for part in filter(None, re.split("…", quoted)):
        assert part in said[at:], f"{part!r} is not in {said!r}"
        at = said.index(part, at) + len(part)
