"""Where launchers say so, how work is shared out, and how results come together in order."""

import argparse
import socket
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly.cli import launch
from anomaly.cli.launch import _choose_device, first_host, launched, read_place
from anomaly.errors import InputError
from anomaly.evaluation.shares import image_share
from anomaly.scores.registry import get_scores
from anomaly.utils.processes import ALONE, Processes

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "2", "SLURM_JOB_ID": "123456"}
OPEN_MPI = {
    **{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


def test_torchrun():
    place = read_place("pytorch", TORCHRUN)
    assert (place.rank, place.size, place.local_rank, place.address, place.port) == (3, 8, 1, "10.0.0.1", 4000)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[003-010,020],login", "gpu003"),
        ("node7", "node7"),
        ("a1,b[2-3]", "a1"),
        ("rack[1-2]n[05-06]", "rack1n05"),
        ("c-[12]", "c-12"),
    ],
)
def test_slurm_finds_the_first_node(nodes, first):
    assert first_host(nodes) == first
    place = read_place("slurm", {**SLURM, "SLURM_STEP_NODELIST": nodes})
    assert (place.rank, place.size, place.local_rank, place.address) == (5, 6, 2, first)
    assert 20000 <= place.port < 40000
    other = read_place("slurm", {**SLURM, "SLURM_JOB_ID": "123457", "SLURM_STEP_NODELIST": nodes})
    assert other.port != place.port
    named = read_place("slurm", {**SLURM, "MASTER_ADDR": "here", "MASTER_PORT": "99", "SLURM_STEP_NODELIST": nodes})
    assert (named.address, named.port) == ("here", 99)


def test_mpi_on_one_machine_and_on_several():
    place = read_place("mpi", OPEN_MPI)
    assert (place.rank, place.size, place.local_rank, place.address) == (1, 2, 1, "127.0.0.1")
    intel = {"PMI_RANK": "0", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MASTER_ADDR": "node1"}
    place = read_place("mpi", intel)
    assert (place.rank, place.size, place.address) == (0, 4, "node1")
    with pytest.raises(InputError, match="MASTER_ADDR"):
        read_place("mpi", {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"})


@pytest.mark.parametrize(
    ("launcher", "environment", "word"),
    [
        ("pytorch", {}, "RANK"),
        ("pytorch", {**TORCHRUN, "WORLD_SIZE": "many"}, "WORLD_SIZE"),
        ("pytorch", {**TORCHRUN, "RANK": "8"}, "WORLD_SIZE"),
        ("pytorch", {name: value for name, value in TORCHRUN.items() if name != "MASTER_PORT"}, "MASTER_PORT"),
        ("slurm", {}, "srun"),
        ("mpi", {}, "mpirun"),
    ],
)
def test_an_incomplete_environment_is_refused(launcher, environment, word):
    with pytest.raises(InputError, match=word):
        read_place(launcher, environment)


def test_a_process_that_never_starts_is_told(monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(launch, "MEETING", timedelta(seconds=2))
    monkeypatch.setattr(launch, "HINT", 0.1)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # restored afterwards
    with pytest.raises(InputError, match=r"expected 2 processes to meet at 127.0.0.1.*not all of them in time"):
        launch._meet("pytorch", launch.Place(0, 2, 0, "127.0.0.1", port))
    assert "process 0 waits for the others of 2" in capsys.readouterr().err
    assert not torch.distributed.is_initialized()


def test_without_a_launcher_and_with_one_process_nothing_is_started(monkeypatch):
    with launched(argparse.Namespace(launcher="none")) as processes:
        assert processes == ALONE
    for name, value in {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    with launched(argparse.Namespace(launcher="pytorch", device="cpu")) as processes:
        assert processes == ALONE
    assert not torch.distributed.is_initialized()


def test_every_process_of_a_machine_gets_its_own_gpu(monkeypatch):
    place, chosen = read_place("pytorch", TORCHRUN), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for given, device in ((None, "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu")):
        args = argparse.Namespace(launcher="pytorch", device=given)
        _choose_device(args, place)
        assert args.device == device
    assert chosen == [1, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")  # the launcher shows each process its own GPU
    _choose_device(args := argparse.Namespace(launcher="slurm", device=None), place)
    assert args.device == "cuda:0"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(InputError, match="process 3: expected a GPU for every process"):
        _choose_device(argparse.Namespace(launcher="pytorch", device=None), place)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_shares_are_a_partition_of_about_equal_cost(seed, size):
    random = np.random.default_rng(seed)
    costs = (random.pareto(1.0, 30) + random.choice([0.0, 1.0])).tolist()
    shares = [Processes(rank, size).share(costs) for rank in range(size)]
    assert sorted(job for share in shares for job in share) == list(range(30))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(costs[job] for job in share) for share in shares]
    # Graham (1969): largest first is within 4/3 - 1/(3 size) of the best, which is at least both of these
    best = max(max(costs), sum(costs) / size)
    assert max(loads) <= (4 / 3 - 1 / (3 * size)) * max(best, _two_largest(costs, size)) * (1 + 1e-9)


def _two_largest(costs, size):
    """If there are more jobs than processes, some process has two of the ``size + 1`` largest."""
    largest = sorted(costs, reverse=True)
    return largest[size - 1] + largest[size] if len(costs) > size else 0.0


def test_images_whose_scores_are_stored_cost_less(tmp_path):
    """Of five images of one size, four are stored: the other one is as much work as ten of them."""
    names = [str(i) for i in range(5)]
    for name in names:
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    store = SimpleNamespace(has=lambda name, scores, image=None: name != "2")
    images = [(name, tmp_path / f"{name}.png") for name in names]

    class Two(Processes):
        def from_first(self, value):
            return value

    assert [image_share(images, get_scores(["msp"]), store, Two(rank, 2)) for rank in (0, 1)] == [[2], [0, 1, 3, 4]]
    assert [len(image_share(images, get_scores(["msp"]), None, Two(rank, 2))) for rank in (0, 1)] == [3, 2]


def test_one_process_does_everything_in_order():
    assert ALONE.share([3.0, 1.0, 2.0]) == [0, 1, 2]
    assert list(ALONE.in_turn("abc")) == list("abc")
    assert list(ALONE.in_order(3, iter("abc"), str.upper)) == [("A", "a"), ("B", "b"), ("C", "c")]
    assert ALONE.gather(1) == [1]
    assert ALONE.from_first(2) == 2
    ALONE.check_same("anything", object())


def test_distributed_in_python_needs_a_group():
    with pytest.raises(InputError, match="init_process_group"):
        Processes.of_default_group()
