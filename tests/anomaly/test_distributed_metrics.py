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
CASES = {"exact": {"mode": "exact"}, "on disk": {"memory_budget": 1}, "binned": {"mode": "binned"}}


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


def _process(rank, world, folder):
    """Gather metrics of every kind, and at last such as cannot be merged; write what each gave, or the refusal."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    padded = [index % FRAMES for index in range(rank, world * -(-FRAMES // world), world)]  # as mmengine's sampler does
    found = {}
    for case, settings in CASES.items():
        metrics = filled(padded, **settings)
        alone = metrics.compute()
        metrics.gather()
        found[case] = metrics.compute() if rank == 0 else metrics.compute() == alone
    try:
        filled(padded, **({"tpr": 0.5} if rank == world - 1 else {})).gather()
    except InputError as error:
        found["refused"] = str(error)
    dist.barrier()
    with open(f"{folder}/{rank}.pkl", "wb") as file:
        pickle.dump(found, file)
    leave()


def test_one_process_is_left_alone():
    metrics = filled(range(FRAMES))
    expected = metrics.compute()
    metrics.gather()
    assert metrics.compute() == expected


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_many_processes_equal_one_and_refuse_what_cannot_be_merged(tmp_path, world):
    mp.spawn(_process, args=(world, tmp_path), nprocs=world)
    first, *others = [pickle.loads((tmp_path / f"{rank}.pkl").read_bytes()) for rank in range(world)]
    for case, settings in CASES.items():
        assert first[case] == filled(range(FRAMES), **settings).compute()
        assert [other[case] for other in others] == [True] * (world - 1)  # the others keep theirs
    assert all("cannot merge pixel metrics with tpr 0.5" in found["refused"] for found in (first, *others))
