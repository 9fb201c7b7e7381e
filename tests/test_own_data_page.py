"""docs/own_data.md from folders to the report, with its script, its config and its commands, on smaller images."""

import json
import re
import shlex
from pathlib import Path

import pytest

from anomaly.results.records import read_results
from tests.commands import status_of

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "own_data.md").read_text()
CLASSES = ["ground", "structure", "nature", "traffic"]
SMALLER = {
    "train=60, val=10, open_world=20, size=(180, 240)": "train=3, val=2, open_world=2, size=(64, 96)",
    "scale=(240, 180)": "scale=(96, 64)",
    "crop_size = (160, 224)": "crop_size = (40, 64)",
    "max_iters = 200": "max_iters = 2",
    "pretrained=True": "pretrained=False",
    "num_workers=1": "num_workers=0",
    "interval=20,": "interval=1,",
    "begin=0, end=20": "begin=0, end=1",
    "begin=20, end=": "begin=1, end=",
}


def block(start):
    """The block of Python that starts so, for smaller images and a shorter training."""
    (found,) = re.findall(rf"^```python\n({re.escape(start)}.*?)^```", PAGE, flags=re.M | re.S)
    for ours, smaller in SMALLER.items():
        found = found.replace(ours, smaller)
    return found


def commands():
    joined = "".join(re.findall(r"^```shell\n(.*?)^```", PAGE, flags=re.M | re.S)).replace("\\\n", " ")
    return [line.replace("iter_200.pth", "iter_2.pth") for line in joined.splitlines()]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the page has the reader save."""
    monkeypatch.chdir(tmp_path)
    exec(block("from pathlib import Path"), {})
    Path("my_config.py").write_text(block("# Four classes"))
    return tmp_path


def test_nothing_of_the_page_is_left_large():
    assert not [text for text in SMALLER if text not in PAGE]


@pytest.mark.slow
def test_from_folders_to_the_report(place):
    train, test, evaluate, look = (shlex.split(line) for line in commands())
    assert status_of(" ".join(train[:2]), *train[2:]) == 0
    losses = [json.loads(line) for line in next(place.glob("work_dirs/mine/*/vis_data/scalars.json")).open()]
    assert [one["step"] for one in losses if "loss" in one] == [1, 2]
    assert status_of(" ".join(test[:2]), *test[2:]) == 0
    assert json.loads((place / "metrics.json").read_text())["frames"] == 2
    assert status_of(" ".join(evaluate[:2]), *evaluate[2:]) == 0
    out = place / "work_dirs/my_config/ood_eval"
    found = read_results(out / "results.json")
    assert [entry.dataset for entry in found.datasets] == ["my_anomalies"]
    assert list(found.closed_set.class_iou) == CLASSES
    assert "my_anomalies" in (out / "report.html").read_text()
    assert status_of(" ".join(look[:2]), *look[2:]) == 0
    assert (place / "look.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.decode_head.num_classes=3", "set num_classes=4"),
        ("train_dataloader.dataset.data_root=nowhere", "which is not a folder with files"),
    ],
)
@pytest.mark.usefixtures("place")
def test_the_page_quotes_the_message(option, words, capfd):
    assert words in PAGE
    assert status_of("gmmseg train", "my_config.py", "--work-dir", "run", "--cfg-options", option) == 2
    assert words in capfd.readouterr().err.splitlines()[-1]
