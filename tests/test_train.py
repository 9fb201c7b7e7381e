"""The tools in a row, as ``make demo`` runs them, on a few tiny scenes; and how train and test end on bad input."""

import json
import sys
from pathlib import Path

import pytest
import torch

from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.result import read_results

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs/demo/segformer-gmmseg_street_scenes.py")
SMALL = (
    *("--cfg-options", "model.backbone.pretrained=False", "model.decode_head.mixture.memory_size=50"),
    *("model.data_preprocessor.size=(64,96)", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"),
    *("default_hooks.logger.interval=1", "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
    *("val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"),
    *("test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False"),
)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a tool's main in this process, in an empty folder; give its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.setenv("DATA_ROOT", "data")

    def run(tool, *arguments):
        import importlib

        import _run

        monkeypatch.setattr(sys, "argv", [f"{tool}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            _run.run(importlib.import_module(tool).main)
        return ended.value.code

    monkeypatch.delitem(sys.modules, "test", raising=False)  # tools/test.py, not Python's own package of that name
    return run


@pytest.fixture
def scenes(tmp_path):
    write_street_scenes(tmp_path / "data/street_scenes", train=4, val=2, open_world=2, size=(64, 96), seed=3)


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_train_resume_test_and_evaluate(call, capsys, monkeypatch, tmp_path):
    assert call("train", CONFIG, "--work-dir", "run", *SMALL, "train_cfg.max_iters=2") == 0
    first = torch.load(tmp_path / "run/iter_2.pth", weights_only=False)["state_dict"]
    assert call("train", CONFIG, "--work-dir", "run", "--resume", *SMALL, "train_cfg.max_iters=4") == 0
    second = torch.load(tmp_path / "run/iter_4.pth", weights_only=False)["state_dict"]
    prefix = "decode_head.classifier.em."
    assert (first[prefix + "step"], second[prefix + "step"]) == (2, 4)
    pushed = [state[prefix + "memory.count"].sum() for state in (first, second)]
    assert 0 < pushed[0] < pushed[1]
    assert call("test", CONFIG, "run/iter_4.pth", "--data-root", "nowhere", *SMALL) == 2
    _ends_with_one_sentence(capsys, "nowhere/street_scenes/leftImg8bit/val", "--data-root")
    monkeypatch.setenv("DATA_ROOT", "data")  # --data-root had set it
    other = (*SMALL, "train_cfg.max_iters=6", "model.decode_head.mixture.num_components=3")
    assert call("train", CONFIG, "--work-dir", "run", "--resume", *other) == 2
    _ends_with_one_sentence(capsys, "iter_4.pth is of another network", "size mismatch")

    assert call("test", CONFIG, "run/iter_4.pth", "--work-dir", "tested", "--out", "figures/test.json", *SMALL) == 0
    figures = json.loads((tmp_path / "figures/test.json").read_text())
    assert figures["frames"] == 2

    command = (CONFIG, "run/iter_4.pth", "--sets", "street_scenes", "--out", "evaluated", *SMALL)
    assert call("ood_eval", *command) == 0
    result = read_results(tmp_path / "evaluated/results.json")
    assert set(result.sets[0].scores) == {"gmm_nll", "msp", "max_logit", "entropy", "energy"}
    assert result.closed_set.miou * 100 == pytest.approx(figures["mIoU"], abs=0.01)
    assert len(list((tmp_path / "evaluated/heatmaps/street_scenes/gmm_nll").glob("*.png"))) == 2

    letters = ",".join("abcdefghijk")
    for tool, loader, arguments in (
        ("test", "test_dataloader", ("--out", "figures/none.json")),
        ("ood_eval", "val_dataloader", ("--sets", "street_scenes", "--out", "none")),
    ):
        options = (*SMALL, f"{loader}.dataset.metainfo.classes={letters}")
        assert call(tool, CONFIG, "run/iter_4.pth", *arguments, *options) == 2
        _ends_with_one_sentence(capsys, "was trained on the classes road, lane_mark", "have a, b, c")
    assert not (tmp_path / "figures/none.json").exists()
    assert not (tmp_path / "none").exists()


def _ends_with_one_sentence(capsys, *parts):
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    for part in parts:
        assert part in message


def test_missing_data_folder(call, capsys):
    assert call("train", CONFIG, "--data-root", "nowhere") == 2
    _ends_with_one_sentence(capsys, "nowhere/street_scenes/leftImg8bit", "--data-root", "prepare_data.py")


def test_missing_and_broken_config(call, capsys, tmp_path):
    assert call("train", "nothing.py") == 2
    _ends_with_one_sentence(capsys, "config nothing.py does not exist")
    (tmp_path / "broken.py").write_text("model = dict(")
    assert call("train", "broken.py") == 2
    _ends_with_one_sentence(capsys, "config broken.py cannot be read")
    assert call("train", CONFIG, "--cfg-options", "seed") == 2
    _ends_with_one_sentence(capsys, "--cfg-options takes KEY=VALUE, found 'seed'")


@pytest.mark.usefixtures("scenes")
def test_bad_checkpoint(call, capsys, tmp_path):
    assert call("test", CONFIG, "nothing.pth", *SMALL) == 2
    _ends_with_one_sentence(capsys, "checkpoint nothing.pth does not exist")
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
    assert call("test", CONFIG, "other.pth", *SMALL) == 2
    _ends_with_one_sentence(capsys, "other.pth is of another network", "missing backbone.stem.weight")


@pytest.mark.usefixtures("scenes")
def test_unknown_mixture_setting(call, capsys):
    assert call("train", CONFIG, *SMALL, "model.decode_head.mixture.num_prototype=3") == 2
    _ends_with_one_sentence(capsys, "unknown mixture setting 'num_prototype'")


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_resuming_runs_no_code_and_restores_every_tensor(call, tmp_path):
    assert call("train", CONFIG, "--work-dir", "run", *SMALL, "train_cfg.max_iters=2") == 0
    path = tmp_path / "run/iter_2.pth"
    saved = torch.load(path, weights_only=False)
    saved["meta"]["config"] = "import os\nos.mkdir('ran')\n"
    torch.save(saved, path)

    from mmengine.config import Config, DictAction
    from mmengine.registry import init_default_scope

    from gmmseg.engine import SafeRunner

    config = Config.fromfile(CONFIG)
    options = dict(option.split("=", 1) for option in (*SMALL[1:], "train_cfg.max_iters=4"))
    config.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in options.items()})
    config.work_dir, config.resume = str(tmp_path / "run"), True
    init_default_scope("mmseg")
    runner = SafeRunner.from_cfg(config)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.load_or_resume()
    assert runner.iter == 2
    assert not (tmp_path / "ran").exists()
    restored = runner.model.state_dict()
    assert all(torch.equal(restored[key], value) for key, value in saved["state_dict"].items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--amp",), "--amp needs a CUDA device"),
        (("--work-dir", CONFIG), "is a file; name a folder"),
        ((*SMALL, "load_from=nothing.pth"), "load_from names nothing.pth"),
        ((*SMALL, "log_level.x=1"), "--cfg-options log_level.x=1 does not fit"),
        ((*SMALL, "model.no_such_key=1"), "cannot be built"),
    ],
)
@pytest.mark.usefixtures("scenes")
def test_what_cannot_be_trained(call, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call("train", CONFIG, *arguments) == 2
    _ends_with_one_sentence(capsys, message)
