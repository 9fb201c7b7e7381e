"""Metrics brought together from several processes are those of one process."""

import pickle

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics
from tests.processes import leave

FRAMES = 7


def frame(index):
    random = np.random.default_rng(index)
    label = random.choice([0, 0, 0, 1, 255], (20, 30)).astype(np.uint8)
    score = random.normal(label == 1, 1).astype(np.float64 if index == 2 else np.float32)
    return f"frame{index}", score, label


def filled(indices, **settings):
    metrics = PixelMetrics("msp", dataset="road", threshold=0.5, **settings)
    for index in indices:
        metrics.update(*frame(index))
    return metrics


def _process(rank, world, folder, settings, odd):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    padded = [index % FRAMES for index in range(rank, world * -(-FRAMES // world), world)]  # as mmengine's sampler does
    metrics = filled(padded, **settings)
    if odd and rank == world - 1:
        metrics = filled(padded, **settings, tpr=0.5)
    alone, message = metrics.compute(), ""
    try:
        metrics.gather()
    except InputError as error:
        message = str(error)
    dist.barrier()
    with open(f"{folder}/{rank}.pkl", "wb") as file:
        pickle.dump((metrics.compute() if rank == 0 else metrics.compute() == alone, message), file)
    leave()


def spawn(folder, world, settings, odd=False):
    mp.spawn(_process, args=(world, folder, settings, odd), nprocs=world)
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(world)]


def test_one_process_is_left_alone():
    metrics = filled(range(FRAMES))
    expected = metrics.compute()
    metrics.gather()
    assert metrics.compute() == expected


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("settings", [{"mode": "exact"}, {"memory_budget": 1}, {"mode": "binned"}], ids=str)
def test_many_processes_equal_one(tmp_path, world, settings):
    (gathered, _), *others = spawn(tmp_path, world, settings)
    assert gathered == filled(range(FRAMES), **settings).compute()
    assert others == [(True, "")] * (world - 1)  # the others keep theirs


@pytest.mark.slow
def test_what_cannot_be_merged_is_refused_everywhere(tmp_path):
    found = spawn(tmp_path, 2, {"mode": "exact"}, odd=True)
    assert all("cannot merge pixel metrics of tpr 0.5" in message for _, message in found)
