"""The tools in a row, as ``make demo`` runs them, on a few tiny scenes; and how train and test end on bad input."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.results.records import read_results
from tests.commands import TOOLS, status_of
from tests.gmmseg.tiny_training import assert_same, logged_losses
from tests.processes import start_tool

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs/demo/segformer-gmmseg_street_scenes.py")
SMALL = (
    *("--cfg-options", "model.backbone.pretrained=False", "model.decode_head.mixture.memory_size=50"),
    *("model.data_preprocessor.size=(64,96)", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"),
    *("default_hooks.logger.interval=1", "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
    *("val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"),
    *("test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False"),
)
TESTED = SMALL[:3] + tuple(option for option in SMALL if option.startswith(("test_dataloader.", "default_hooks.")))
EVALUATED = (SMALL[0], *SMALL[2:4])  # what gmmseg test and anomaly evaluate do not read, they refuse


def small(*more):
    """SMALL with more options, which take the place of those with the same key."""
    keys = [option.partition("=")[0] for option in more]
    return (*(option for option in SMALL if option.partition("=")[0] not in keys), *more)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a tool's main in this process, in an empty folder; give its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", "data")

    def run(tool, *arguments):
        status = status_of(TOOLS[tool], *arguments)
        return status

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
    pushed = [state[prefix + "memory.pushed"].sum() for state in (first, second)]
    assert 0 < pushed[0] < pushed[1]
    assert call("test", CONFIG, "run/iter_4.pth", "--data-root", "nowhere", *TESTED) == 2
    _ends_with_one_sentence(capsys, "nowhere/street_scenes/leftImg8bit/val", "--data-root")
    monkeypatch.setenv("DATA_ROOT", "data")  # --data-root had set it
    other = (*SMALL, "train_cfg.max_iters=6", "model.decode_head.mixture.num_components=3")
    assert call("train", CONFIG, "--work-dir", "run", "--resume", *other) == 2
    _ends_with_one_sentence(capsys, "iter_4.pth belongs to another network", "size mismatch")

    assert call("test", CONFIG, "run/iter_4.pth", "--work-dir", "tested", "--out", "figures/test.json", *TESTED) == 0
    figures = json.loads((tmp_path / "figures/test.json").read_text())
    assert figures["frames"] == 2

    command = (CONFIG, "run/iter_4.pth", "--sets", "street_scenes", "--out", "evaluated", *EVALUATED)
    assert call("ood_eval", *command) == 0
    result = read_results(tmp_path / "evaluated/results.json")
    assert set(result.datasets[0].scores) == {"gmm_nll", "msp", "max_logit", "entropy", "energy"}
    assert result.closed_set.miou * 100 == pytest.approx(figures["mIoU"], abs=0.01)
    assert len(list((tmp_path / "evaluated/heatmaps/street_scenes/gmm_nll").glob("*.png"))) == 2

    assert call("test", CONFIG, "run/iter_4.pth", "--work-dir", "none", *TESTED, "model.test_cfg.mode=slid") == 2
    _ends_with_one_sentence(capsys, "did you mean 'slide'")
    assert call("test", CONFIG, "run/iter_4.pth", *TESTED, "load_from=run/iter_4.pth") == 2
    _ends_with_one_sentence(capsys, "CHECKPOINT")
    assert not (tmp_path / "none").exists()
    letters = ",".join("abcdefghijk")
    for tool, loader, arguments, settings in (
        ("test", "test_dataloader", ("--out", "figures/none.json"), TESTED),
        ("ood_eval", "val_dataloader", ("--sets", "street_scenes", "--out", "none"), EVALUATED),
    ):
        options = (*settings, f"{loader}.dataset.metainfo.classes={letters}")
        assert call(tool, CONFIG, "run/iter_4.pth", *arguments, *options) == 2
        _ends_with_one_sentence(capsys, "was trained on the classes road, lane_mark", "have a, b, c")
    assert not (tmp_path / "figures/none.json").exists()
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
@pytest.mark.parametrize(
    ("tool", "part", "words"),
    [
        ("fit", "train", ("--out", "made")),
        ("test", "val", ("--work-dir", "made")),
        ("train", "train", ("--work-dir", "made")),
        ("train", "val", ("--work-dir", "made")),
        ("ood_eval", "val", ("--sets", "street_scenes", "--out", "made")),
    ],
)
def test_frames_of_another_suffix_are_not_passed_over(call, capsys, tmp_path, tool, part, words):
    path = next(Path("data/street_scenes/leftImg8bit", part).rglob("*_leftImg8bit.png"))
    path.rename(path.with_suffix(".jpg"))
    assert call(tool, CONFIG, *(() if tool == "train" else (str(ROOT / "checkpoints/street_scenes.pth"),)), *words) == 2
    expected = "expected images that end in _leftImg8bit.png and label maps"
    found = f"found {path.with_suffix('.jpg')} with a label map (1 such frames beside"
    _ends_with_one_sentence(capsys, expected, found)
    assert not list(tmp_path.glob("made*"))


def _ends_with_one_sentence(capsys, *parts):
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    for part in parts:
        assert part in message


def test_missing_data_folder(call, capsys):
    assert call("train", CONFIG, "--data-root", "nowhere") == 2
    _ends_with_one_sentence(capsys, "nowhere/street_scenes/leftImg8bit", "--data-root", "anomaly data")


def test_missing_and_broken_config(call, capsys, tmp_path):
    assert call("train", "nothing.py") == 2
    _ends_with_one_sentence(capsys, "config nothing.py does not exist")
    (tmp_path / "broken.py").write_text("model = dict(")
    assert call("train", "broken.py") == 2
    _ends_with_one_sentence(capsys, "config broken.py cannot be read")
    assert call("train", CONFIG, "--cfg-options", "a={'b':[1,2],'c':[3,4]}") == 2
    _ends_with_one_sentence(capsys, "--cfg-options a={'b':[1,2],'c':[3,4]} does not fit the config")
    assert call("train", CONFIG, "--cfg-options", "seed") == 2
    _ends_with_one_sentence(capsys, "--cfg-options: expected KEY=VALUE, found 'seed'")


@pytest.mark.usefixtures("scenes")
def test_bad_checkpoint(call, capsys, tmp_path):
    assert call("test", CONFIG, "nothing.pth", *TESTED) == 2
    _ends_with_one_sentence(capsys, "checkpoint nothing.pth does not exist")
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
    assert call("test", CONFIG, "other.pth", *TESTED) == 2
    _ends_with_one_sentence(capsys, "other.pth belongs to another network", "missing backbone.stem.weight")


@pytest.mark.slow
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

    from gmmseg.training import SafeRunner

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--work-dir", CONFIG), "is a file; give a folder"),
        (("--work-dir", "/proc/none"), "--work-dir /proc/none cannot be written"),
        ((*SMALL, "load_from=nothing.pth"), "expected a local file, found nothing.pth"),
        (("--resume", "nothing.pth", *SMALL), "checkpoint nothing.pth does not exist"),
        (("--resume", "weights.pth", *SMALL), "weights.pth holds weights but no training state"),
        ((*SMALL, "log_level.x=1"), "--cfg-options log_level.x=1 does not fit"),
        ((*SMALL, "model.no_such_key=1"), "no_such_key"),
        ((*SMALL, "train_cfg.max_iters=abc"), "train_cfg.max_iters must be a whole number of 1 or more, found 'abc'"),
        ((*SMALL, "train_cfg.max_iters=0"), "train_cfg.max_iters must be a whole number of 1 or more, found 0"),
        (small("train_cfg.val_interval=0"), "train_cfg.val_interval must be a whole number of 1 or more, found 0"),
        ((*SMALL, "train_dataloader.batch_size=0"), "train_dataloader.batch_size must be a whole number of 1 or more"),
        (small("val_dataloader.num_workers=1.5"), "val_dataloader.num_workers must be a whole number of 0 or more"),
        ((*SMALL, "optim_wrapper.optimizer.lr=fast"), "street_scenes.py cannot be trained: TypeError: "),
        (
            (*SMALL, "model.decode_head.num_classes=7"),
            "num_classes=7, and the data of train_dataloader have 11 classes",
        ),
        (
            (*SMALL, "model.backbone.init_cfg.type=Pretrained", "model.backbone.init_cfg.checkpoint=none.pth"),
            "none.pth",
        ),
        (("--launcher", "pytorch", *SMALL), "needs processes that torchrun starts"),
        ((*SMALL, "model.test_cfg.mode=slide"), "model.test_cfg.crop_size: expected two positive integers"),
        ((*SMALL, "model.test_cfg.mode=hole"), "did you mean 'whole'"),
        (("--resume", "weights.pth", *SMALL, "load_from=other.pth"), "load_from=other.pth has no effect"),
        (("--resume", *SMALL, "resume=False"), "--resume sets it"),
        (("--work-dir", "here", *SMALL, "work_dir=there"), "--work-dir sets it"),
        (("--amp", *SMALL, "optim_wrapper.type=OptimWrapper"), "--amp sets it"),
        ((*SMALL, "launcher=pytorch"), "--launcher sets it"),
        ((*SMALL, "find_unused_parameters=True"), "--launcher"),
    ],
)
@pytest.mark.usefixtures("scenes")
def test_what_cannot_be_trained(call, capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "meta": {"epoch": 0, "iter": 1}}, tmp_path / "weights.pth")
    assert call("train", CONFIG, *arguments) == 2
    _ends_with_one_sentence(capsys, message)


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_initial_weights_without_a_network(call, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    address = "http://127.0.0.1:9/mit_b0.pth"  # nothing listens there
    weights = ("model.backbone.init_cfg.type=Pretrained", f"model.backbone.init_cfg.checkpoint={address}")
    assert call("train", CONFIG, *SMALL, *weights) == 2
    _ends_with_one_sentence(
        capsys, f"initial weights {address} cannot be downloaded", str(tmp_path / "torch/hub/checkpoints")
    )


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_initial_weights_run_no_code(call, capsys, tmp_path):
    torch.save({"state_dict": {"weight": Payload()}}, tmp_path / "hostile.pth")
    weights = ("model.backbone.init_cfg.type=Pretrained", "model.backbone.init_cfg.checkpoint=hostile.pth")
    assert call("train", CONFIG, *SMALL, *weights) == 2
    _ends_with_one_sentence(capsys, "checkpoint hostile.pth was refused")
    assert not (tmp_path / "ran").exists()


def _start(folder, *arguments, **options):
    """Start gmmseg train as a process of its own."""
    environment = {**os.environ, "DATA_ROOT": "data", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools/train.py"), CONFIG, *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes, **options)


def _train(folder, option, work_dir, *words, **options):
    """Start gmmseg train in a process that has imported its libraries; its errors are in a file named by its run."""
    environment = {"DATA_ROOT": "data", "OMP_NUM_THREADS": "1"}
    words, err = (CONFIG, option, work_dir, *words), f"{work_dir}.txt"
    return start_tool("train.py", words, folder, environment=environment, out=os.devnull, err=err, **options)


def _finish(process):
    message = process.communicate(timeout=240)[1]
    return process.returncode, message


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_killed_and_resumed_is_that_without_a_stop(tmp_path):
    options = small("train_dataloader.num_workers=1", "train_cfg.max_iters=6", "train_cfg.val_interval=3")
    whole = _train(tmp_path, "--work-dir", "whole", *options)
    killed = _train(tmp_path, "--work-dir", "parts", *options)
    while not (tmp_path / "parts/iter_2.pth").exists():
        assert killed.exitcode is None, (tmp_path / "parts.txt").read_text()
        time.sleep(0.01)
    killed.kill()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "parts/iter_6.pth").exists()
    resumed = _train(tmp_path, "--work-dir", "parts", "--resume", *options)
    for run, process in (("parts", resumed), ("whole", whole)):
        process.join(240)
        assert process.exitcode == 0, (tmp_path / f"{run}.txt").read_text()

    expected, resumed = (torch.load(tmp_path / run / "iter_6.pth", weights_only=True) for run in ("whole", "parts"))
    assert {"decode_head.classifier.mixture.means", "decode_head.classifier.em.memory.pushed"} < expected[
        "state_dict"
    ].keys()
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert_same(expected[part], resumed[part])
    losses = logged_losses(tmp_path / "whole")
    assert losses.keys() == set(range(1, 7))
    assert losses == logged_losses(tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_no_room_for_a_checkpoint(tmp_path):
    no_room = partial(
        resource.setrlimit, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)
    )  # the first checkpoint has more
    process = _train(tmp_path, "--work-dir", "run", *SMALL, before=no_room)
    process.join(240)
    message = (tmp_path / "run.txt").read_text()
    assert process.exitcode == 2, message
    assert "Traceback" not in message
    last = message.strip().splitlines()[-1]
    assert last.startswith("error: checkpoint ")
    assert "run/iter_2.pth could not be written (File too large)" in last
    assert not list((tmp_path / "run").glob("*.pth*"))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_ctrl_c_while_starting(tmp_path, seconds):
    process = _start(tmp_path, "--work-dir", "run")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    status, message = _finish(process)
    assert status in (130, 2)  # 2 where it had found that there are no data
    assert "Traceback" not in message


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_mixed_precision_without_a_gpu(call, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call("train", CONFIG, "--work-dir", "run", "--amp", *SMALL, "train_cfg.max_iters=2") == 0
    written = (tmp_path / "run" / Path(CONFIG).name).read_text()
    assert "gmmseg.CPUAmpOptimWrapper" in written
    state = torch.load(tmp_path / "run/iter_2.pth", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
