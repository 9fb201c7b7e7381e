"""The lines that the design says people type, as written: Python and the command, on a small network and dataset."""

import hashlib

import numpy as np
import pytest
import torch

from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import status_of

PYTHON = """
model = anomaly.load_model("tiny.py", "tiny.pth")
model = anomaly.TorchModel(my_module, output="out", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
data = anomaly.load_dataset("road_anomaly", root="data")
result = anomaly.evaluate(model, data, scores=["energy", "msp"])
print(result)
result.to_frame(); result.save("out"); result.report("out/report.html")
anomaly.compare(result, other, paired=True)
anomaly.score(model, image, "energy")
"""


class Module(torch.nn.Module):
    """As torchvision's networks answer: a dict with the logits and those of an auxiliary head."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        logits = self.layer(images)
        return {"out": logits, "aux": logits}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with ``data/road_anomaly``, a config and its checkpoint; also the working directory."""
    monkeypatch.chdir(tmp_path)
    tiny_segmentor.write_all(tmp_path)
    write_road_anomaly(tmp_path / "data" / "road_anomaly")
    return tmp_path


def write_road_anomaly(root):
    """A whole RoadAnomaly: as many frames as are published, each of them tiny."""
    set_trees.road_anomaly(root, {f"f{i:02}": (0, 0, 0, 2, 2, 0, 0) for i in range(60)})


@pytest.mark.slow
def test_python(place, capsys):
    import anomaly

    other = anomaly.evaluate(
        anomaly.TorchModel(Module(1), output="out", mean=(0, 0, 0), std=(1, 1, 1)),
        anomaly.load_dataset("road_anomaly", root="data", as_found=True),
        scores=["energy", "msp"],
    )
    names = {"anomaly": anomaly, "my_module": Module(0), "other": other, "image": np.zeros((48, 64, 3), np.uint8)}
    for line in filter(None, PYTHON.splitlines()):
        exec(line, names)
    assert "energy" in capsys.readouterr().out
    assert (place / "out/report.html").is_file()
    assert {path.name for path in (place / "out").iterdir()} == {"report", "report.html", "results.csv", "results.json"}


@pytest.mark.slow
def test_record_names_the_checkpoint_that_was_loaded(place):
    import anomaly

    data = anomaly.load_dataset("road_anomaly", root="data", as_found=True)
    result = anomaly.evaluate(("tiny.py", "tiny.pth"), data, "msp", limit=1, report_images=0, closed_set=False)
    weights = hashlib.sha256((place / "tiny.pth").read_bytes()).hexdigest()
    assert result.record.provenance["checkpoint"]["sha256"] == weights


@pytest.mark.slow
def test_command(place, capfd):
    words = "evaluate --model tiny.py tiny.pth --data road_anomaly --report --limit 4"
    assert status_of("anomaly", *words.split()) == 0, capfd.readouterr().err
    assert (place / "work_dirs/tiny/ood_eval/report.html").is_file()
    results = "work_dirs/tiny/ood_eval/results.json"
    assert status_of("anomaly", "compare", results) == 0
    assert status_of("anomaly", "verify", results, "tiny.py", "tiny.pth") == 0
    assert "the result comes out again" in capfd.readouterr().out
    assert (
        status_of("anomaly", "look", "data/road_anomaly/frames", "--model", "tiny.py", "tiny.pth", "--out", "l.html")
        == 0
    )
    assert status_of("anomaly", "data", "list") == 0
