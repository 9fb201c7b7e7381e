"""The sample of pixels of every class: against chance, and with the pixels in several processes."""

import copy
import threading

import numpy as np
import torch
from scipy import stats

from anomaly.density.sample import StratifiedSample
from anomaly.utils.processes import ALONE
from tests.anomaly.density_oracles import seeded


def test_sample_is_even_over_batches_and_equal_per_class():
    chosen = np.zeros(60)
    for seed in range(400):
        sample = StratifiedSample(2, 10, 1, seeded(seed))
        for first in (0, 5, 25):  # batches of 5, 20 and 35 pixels
            index = torch.arange(first, {0: 5, 5: 25, 25: 60}[first])
            sample.add(index[:, None].float(), torch.zeros(len(index), dtype=torch.long))
            sample.add(index[:1, None].float(), torch.ones(1, dtype=torch.long))
        assert sample.seen.tolist() == [60, 3]
        kept = sample.of_class(0).flatten().long()
        assert len(kept.unique()) == 10
        chosen[kept] += 1
        assert sorted(sample.of_class(1).flatten().tolist()) == [0, 5, 25]
    assert stats.chisquare(chosen).pvalue > 1e-3


class Threads:
    """Threads in the place of processes: all get copies of what each of them gives."""

    size = 2

    def __init__(self, rank, given, barrier):
        self.rank, self.given, self.barrier = rank, given, barrier

    def gather(self, value):
        self.given[self.rank] = copy.deepcopy(value)
        self.barrier.wait()
        found = copy.deepcopy(self.given)
        self.barrier.wait()
        return found


def test_several_processes_have_the_sample_of_one():
    features = torch.randn(6, 30, 4, generator=seeded())
    labels = torch.randint(0, 3, (6, 30), generator=seeded(1))
    alone = StratifiedSample(4, 8, 4, seeded(2))
    parts = [StratifiedSample(4, 8, 4, seeded(2)) for _ in range(2)]
    for i in range(6):
        alone.add(features[i], labels[i])
        for rank, part in enumerate(parts):
            part.add(features[i] if i % 2 == rank else None, labels[i])
    alone.gather(ALONE)
    given, barrier = [None, None], threading.Barrier(2, timeout=20)
    threads = [
        threading.Thread(target=part.gather, args=(Threads(rank, given, barrier),)) for rank, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone.seen.tolist() == [*torch.bincount(labels.flatten()).tolist(), 0]
    for part in parts:
        assert torch.equal(part.seen, alone.seen)
        assert all(torch.equal(part.of_class(k), alone.of_class(k)) for k in range(4))
    assert len(alone.of_class(0)) == 8
    assert len(alone.of_class(3)) == 0
