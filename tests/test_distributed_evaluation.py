"""One, two and three processes: the same results to the last bit, and one end for all if one of them fails."""

import json
import os
import pickle
import resource
import signal
import socket
import time
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

import anomaly
from anomaly.datasets.dataset import Dataset, FrameFiles
from anomaly.datasets.label_counts import count_labels
from anomaly.evaluation.config import MetricConfig
from anomaly.evaluation.write_scores import write_scores
from anomaly.fitting.fit import fit_model
from anomaly.fitting.images import TrainingImages, outliers_of
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from anomaly.metrics.functional.components import Track
from anomaly.models.backbone import Backbone
from anomaly.models.feature_density import FeatureDensity
from anomaly.models.tiling import Inference
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import get_scores
from anomaly.utils.processes import ALONE, Processes
from tests.processes import leave, start, start_tool

CLASSES = ("road", "sky", "tree")
ENCODING = {0: KNOWN, 1: KNOWN, 2: KNOWN, 3: ANOMALY, 255: IGNORE}
SIZES = ((40, 60), (30, 48), (64, 80), (40, 60), (33, 57), (40, 60), (20, 90))
PIXELS, SCORES = Track("tiny", 2, 2), ["msp", "energy"]

MODEL = """
import time
import torch
import anomaly

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1, stride=2)

    def forward(self, images):
        time.sleep({seconds})
        return 4 * self.layer(images)

def model():
    net = Net()
    return anomaly.TorchModel(net, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), classes={classes!r}, device="cpu")
"""


class Net(nn.Module):
    """Logits of three classes, and the features below them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.last = nn.Conv2d(3, 6, 3, padding=1, stride=2), nn.Conv2d(6, 3, 1)

    def forward(self, images):
        features = torch.relu(self.features(images)) * (images.shape[2] != 33)  # one frame has a constant score
        return {"features": features, "logits": 4 * self.last(features)}


def make_model():
    how = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "classes": CLASSES, "device": "cpu"}
    return anomaly.TorchModel(Net(), gives=("logits", "features"), **how)


def make_dataset(folder, name, frames, seed=0):
    """Write frames of different sizes, one of them without an anomaly."""
    random, files = np.random.default_rng(seed), []
    (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(frames):
        size = SIZES[i % len(SIZES)]
        label = random.integers(0, 3, size).astype(np.uint8)
        if i != 1:
            label[5:15, 4:20] = 3
        label[:2] = 255
        image = random.integers(0, 200, (*size, 3), dtype=np.uint8)
        image[label == 3] += 40
        paths = folder / name / f"{i}.png", folder / name / f"{i}_label.png"
        Image.fromarray(image).save(paths[0])
        Image.fromarray(label).save(paths[1])
        files.append(FrameFiles(f"{name}{i}", *paths))
    return Dataset(name, folder / name, "pairs", tuple(files), ENCODING, classes=CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, frames, seed in (("mixed", 7, 0), ("small", 2, 1), ("other", 4, 2)):
        make_dataset(folder, name, frames, seed)
    return folder


def datasets(folder):
    """Open the datasets that the fixture wrote."""
    found = []
    for name in ("mixed", "small", "other"):
        count = len(list((folder / name).glob("*_label.png")))
        paths = [(f"{name}{i}", folder / name / f"{i}.png", folder / name / f"{i}_label.png") for i in range(count)]
        files = tuple(FrameFiles(*one) for one in paths)
        found.append(Dataset(name, folder / name, "pairs", files, ENCODING, classes=CLASSES))
    return found


CASES = {
    "everything": {
        "scores": SCORES,
        "postprocessing": ["none", "smooth:sigma=1"],
        "metrics": MetricConfig(track=PIXELS, replicates=30),
        "calibrate_by": "fpr=0.1",
        "closed_set": True,
        "report_images": 3,
    },
    "calibrated components, on disk": {
        "scores": "energy",
        "metrics": MetricConfig(track=PIXELS, components_at="calibrated", memory_budget=1),
        "report_images": 0,
    },
    "binned": {"scores": SCORES, "metrics": MetricConfig(mode="binned"), "calibrate_on": None, "report_images": 0},
}


def measured(folder, case, **more):
    """The record of a case without what differs from run to run, and the views that it kept."""
    mixed, small, other = datasets(folder)
    options = {"calibrate_on": other, "closed_set": False, **CASES[case]}
    options["closed_set"] = other if options["closed_set"] else False
    result = anomaly.evaluate(make_model(), [mixed, small], **options, **more)
    record = result.record.__dict__ | {"timings": None, "provenance": result.record.provenance.get("calibration")}
    at = result._views
    views = {} if at is None else {str(path.relative_to(at)): path.read_bytes() for path in at.rglob("*.npz")}
    return repr(record), views


def fitted(folder, processes):
    """Densities of two kinds of features with outliers, and what scores learn, of frames of several sizes."""
    mixed, small, _ = datasets(folder)

    def read(i):
        frame = mixed.frame(i)
        label = torch.from_numpy(frame.class_label.astype(np.int64))
        return frame.image, torch.where(label < 3, label, -1)

    torch.manual_seed(1)
    body = Backbone(nn.Conv2d(3, 4, 4, stride=4), mean=(0.5,) * 3, std=(0.2,) * 3, device="cpu")
    model = fit_model(
        make_model(),
        TrainingImages(range(len(mixed)), read, labelled=True, classes=3, names=CLASSES),
        [
            FeatureDensity.of_network(of="logits"),
            FeatureDensity.of_network(components=2, pixels=300),
            FeatureDensity(backbone=body, sizes=(20, 30), bank=40, pixels=50),
        ],
        scores=get_scores(["knn", "vim", "typicality", "zscore_sum:of=gmm_nll+energy"]),
        pixels=300,
        outliers=outliers_of(small),
        inference=Inference(window=(24, 40)),
        processes=processes,
    )
    states = [member.densities.state_dict() for member in model.members if member.densities is not None]
    header, learned = model.statistics
    values = [*(value for state in states for value in state.values()), *learned]
    weights = [member.weight for member in model.members]
    return [value.numpy().tobytes() for value in values], header, model.fit_record, weights, sorted(model.fitted_images)


def _process(rank, world, folder, out):
    """Measure every case together with the other processes, and write what this one got."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=world)
    found = {case: measured(folder, case, distributed=True) for case in CASES}
    processes = Processes.of_default_group()
    found["labels"] = repr(count_labels(datasets(folder)[0], processes=processes))
    found["fitted"] = fitted(folder, processes)
    writer = processes.first_then_others(lambda: ScoreWriter(out / "maps", dataset="mixed", method="net"))
    images = [(files.id, files.image) for files in datasets(folder)[0].files]
    found["written"] = write_scores(make_model(), images, get_scores(SCORES), writer, processes=processes)
    turns = list(processes.in_order(5, (10 * i for i in processes.in_turn(range(5))), str))
    found["turns"] = [short for short, _ in turns], [own for _, own in turns]
    (out / f"{rank}.pkl").write_bytes(pickle.dumps(found))
    dist.barrier()
    leave()


def _alone(_, folder, out):
    torch.set_num_threads(1)
    found = {case: measured(folder, case) for case in CASES}
    found |= {"labels": repr(count_labels(datasets(folder)[0])), "fitted": fitted(folder, ALONE)}
    (out / "alone.pkl").write_bytes(pickle.dumps(found))


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """What one process gives: a new one too, as NumPy chooses its instructions when a process starts."""
    out = tmp_path_factory.mktemp("alone")
    start(_alone, folder, out)
    return pickle.loads((out / "alone.pkl").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_many_processes_give_what_one_gives(folder, alone, tmp_path, world):
    start(_process, world, folder, tmp_path, count=world)
    found = [pickle.loads((tmp_path / f"{rank}.pkl").read_bytes()) for rank in range(world)]
    for case in CASES:
        assert [one[case][0] for one in found] == [alone[case][0]] * world
        assert found[0][case][1] == alone[case][1]
    for what in ("open_miou", "f1_mean", "'auroc': [", "'fpr': 0.0", "ClosedSet(", "miou", "in 1 of 7 frames"):
        assert what in alone["everything"][0], what
    assert len(alone["everything"][1]) == 3 + 2 + 2  # views of both datasets, and their descriptions
    for name in ("labels", "fitted"):
        assert [one[name] for one in found] == [alone[name]] * world
    assert [one["written"] for one in found] == [len(SIZES)] * world
    lines = (tmp_path / "maps/images.jsonl").read_text().splitlines()
    assert len({(each["score"], each["frame"]) for each in map(json.loads, lines)}) == len(lines) == 2 * len(SIZES)
    for rank, one in enumerate(found):
        short, own = one["turns"]
        assert short == ["0", "10", "20", "30", "40"]
        assert own == [10 * i if i % world == rank else None for i in range(5)]


# ---- the command


class Run:
    """The processes of one command, as a launcher would start them."""

    def __init__(self, place, world, *words, launcher="pytorch", before=None, more=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        names = {
            "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
            "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
        }[launcher]
        self.started = time.monotonic()
        self.processes = []
        for rank in range(world):
            own = dict(zip(names, map(str, (rank, world, rank)), strict=True))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment = {**own, **meeting, "OMP_NUM_THREADS": "1"}
            command = [*words, "--launcher", launcher, *(more or {}).get(rank, ())]
            files = {"out": f"out{rank}.txt", "err": f"err{rank}.txt", "before": (before or {}).get(rank)}
            self.processes.append(start_tool("ood_eval.py", command, place, environment=environment, **files))
        self.place = place

    def wait(self, seconds=120):
        """Wait for all processes; give their statuses, and all that was written to stderr."""
        for process in self.processes:
            process.join(seconds)
        statuses = [process.exitcode for process in self.processes]
        assert None not in statuses, "a process does not end"
        return statuses, "".join((self.place / f"err{rank}.txt").read_text() for rank in range(len(statuses)))


@pytest.fixture
def place(tmp_path):
    """A folder with images, labels, and a model that takes its time."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(6):
        label = np.zeros(SIZES[i], np.uint8)
        label[5:15, 4:20] = 1
        image = random.integers(0, 200, (*SIZES[i], 3), dtype=np.uint8) + 40 * label[..., None]
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(label).save(tmp_path / f"labels/{i}.png")
    (tmp_path / "net.py").write_text(MODEL.format(seconds=0, classes=CLASSES))
    (tmp_path / "slow.py").write_text(MODEL.format(seconds=0.5, classes=CLASSES))
    return tmp_path


def errors_in(written):
    """Number of errors that were told."""
    return sum(line.startswith("error: ") for line in written.splitlines())


FOLDER = ("--folder", "images", "labels", "--label-values", "0=known", "1=anomaly")


def kept(place, out):
    """Every file of a result; of ``results.json`` what does not differ from run to run."""
    files = {str(path.relative_to(place / out)): path for path in (place / out).rglob("*") if path.is_file()}
    record = json.loads(files.pop("results.json").read_text())
    record = {name: value for name, value in record.items() if name not in ("timings", "provenance")}
    return record | {name: path.read_bytes() for name, path in files.items() if name != "report.html"}


def alone_in(place, *words):
    """The same command in one process."""
    process = start_tool("ood_eval.py", words, place, environment={"OMP_NUM_THREADS": "1"})
    process.join(120)
    out, err = ((place / name).read_text() for name in ("out.txt", "err.txt"))
    assert process.exitcode == 0, err
    return out, err


@pytest.mark.slow
def test_the_command_writes_what_one_process_writes_and_prints_it_once(place):
    words = ("--model", "net.py:model", *FOLDER, "--report", "--save-states", "--bootstrap", "20")
    out, err = alone_in(place, *words, "--out", "one", "--save-scores", "maps1")
    run = Run(place, 2, *words, "--out", "two", "--save-scores", "maps2", launcher="slurm")
    statuses, written = run.wait()
    assert statuses == [0, 0], written
    assert kept(place, "one") == kept(place, "two")
    assert (place / "two/report.html").stat().st_size > 50_000
    assert (place / "out0.txt").read_text() == out.replace("one", "two")
    assert (place / "out1.txt").read_text() == ""
    assert written.count("known") == err.count("known")
    maps = [
        {str(p.relative_to(place / m)): p.read_bytes() for p in (place / m).rglob("*.npy")} for m in ("maps1", "maps2")
    ]
    assert maps[0] == maps[1]
    assert len(maps[0]) == 6 * 4


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_next_run_goes_on_from_stored_maps(place):
    words = ("--model", "slow.py:model", *FOLDER, "--scores", "msp", "--save-scores", "maps", "--out", "out")
    run = Run(place, 3, *words)
    for _ in range(600):
        time.sleep(0.1)
        maps = sorted((place / "maps").rglob("*.npy"))
        if maps or any(process.exitcode is not None for process in run.processes):
            break
    assert maps, run.wait()
    run.processes[1].kill()
    killed = time.monotonic()
    statuses, written = run.wait(60)
    assert time.monotonic() - killed < 60
    assert statuses[1] == -signal.SIGKILL
    assert 0 not in statuses
    assert "process 1 ended before its work was done" in written
    assert "Traceback" not in written
    assert not (place / "out").exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]
    assert not list((place / "maps").rglob("*.part"))

    before = {path: path.stat().st_mtime_ns for path in (place / "maps").rglob("*.npy")}
    statuses, written = Run(place, 2, *words).wait()
    assert statuses == [0, 0], written
    assert len(list((place / "maps").rglob("*.npy"))) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not computed again
    alone_in(place, "--model", "net.py:model", *words[2:-4], "--out", "one")
    assert kept(place, "one")["datasets"] == kept(place, "out")["datasets"]


@pytest.mark.slow
def test_an_error_of_one_process_is_told_once_and_leaves_nothing(place):
    small_files = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    words = ("--model", "net.py:model", *FOLDER, "--heatmaps", "none", "--out", "out")
    statuses, written = Run(place, 2, *words, "--memory", "1e-9", before={1: small_files}).wait()
    assert statuses[1] == 2
    assert 0 not in statuses
    assert errors_in(written) == 1
    assert "more bytes of temporary data" in written
    assert "Traceback" not in written

    statuses, written = Run(place, 2, *words, "--tpr", "3").wait()  # both make the same mistake
    assert errors_in(written) == 1
    assert "tpr" in written
    assert 0 not in statuses
    assert not (place / "out").exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_signal_ends_a_process_that_waits_for_another(place, victim):
    """Process 0 has the largest image, on which the network takes a minute; process 1 waits for it."""
    slow = MODEL.format(seconds="60 * (images.shape[2] == 64)", classes=CLASSES)
    (place / "slow.py").write_text(slow)
    words = ("--model", "slow.py:model", *FOLDER, "--scores", "msp", "--save-scores", "maps", "--out", "out")
    run = Run(place, 2, *words)
    for _ in range(400):
        time.sleep(0.1)
        if len(list((place / "maps").rglob("*.npy"))) == 3:  # all of process 1, which has no more to do
            break
    time.sleep(1)
    run.processes[victim].terminate()
    sent = time.monotonic()
    statuses, written = run.wait(30)
    assert time.monotonic() - sent < 15
    assert 0 not in statuses
    assert errors_in(written) == 1
    assert f"process {victim} was told to end" in written
    assert "Traceback" not in written
    assert not (place / "out").exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_options_that_differ_are_named(place):
    words = ("--model", "net.py:model", *FOLDER, "--out", "out")
    for more, named in ((("--heatmaps", "none"), "(--heatmaps)"), (("--save-scores", "maps"), "(--save-scores)")):
        statuses, written = Run(place, 2, *words, more={1: more}).wait(60)
        assert statuses.count(0) == 0
        assert errors_in(written) == 1
        assert f"process 1: expected the same options as process 0, found a difference {named}" in written
        assert not (place / "out").exists()


@pytest.mark.slow
def test_other_data_on_another_process_is_found(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("images", "labels"):
        (elsewhere / name).mkdir()
        for path in (place / name).iterdir():
            (elsewhere / name / path.name).write_bytes(path.read_bytes())
    label = np.array(Image.open(place / "labels/3.png"))
    label[0, 0] = 1
    Image.fromarray(label).save(elsewhere / "labels/3.png")
    (elsewhere / "net.py").write_text((place / "net.py").read_text())

    there = partial(os.chdir, elsewhere)
    run = Run(place, 2, "--model", "net.py:model", *FOLDER, "--out", "out", before={1: there})
    statuses, written = run.wait()
    assert 0 not in statuses
    assert errors_in(written) == 1
    assert "process 1: expected the same files of" in written
    assert "found a difference (3)" in written
