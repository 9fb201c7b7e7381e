import pytest
import torch
import torch.nn.functional as F

from gmmseg.memory import FeatureMemory, choose_evenly, rank_in_group


class LoopMemory:
    """A list per group, the oldest first."""

    def __init__(self, groups, size):
        self.data, self.size = [[] for _ in range(groups)], size

    def push(self, features, groups):
        for feature, group in zip(features, groups.tolist(), strict=True):
            self.data[group] = [*self.data[group], feature][-self.size :]


def _assert_same(memory, loop):
    for group, rows in enumerate(loop.data):
        assert memory.count[group] == len(rows)
        kept = memory.features[group, : len(rows)]
        if len(rows) == memory.size:
            kept = kept.roll(-int(memory.pointer[group]), 0)
        expected = torch.stack(rows) if rows else torch.zeros(0, kept.shape[1])
        assert torch.equal(kept, expected)
        assert torch.allclose(memory.sums[group], expected.double().sum(0), atol=1e-9)
        assert torch.allclose(memory.square_sums[group], expected.double().square().sum(0), atol=1e-9)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_memory_equals_lists(size):
    generator = torch.Generator().manual_seed(size)
    memory, loop = FeatureMemory(5, size, 3), LoopMemory(5, size)
    for _ in range(30):
        groups = torch.randint(0, 5, (12,), generator=generator)
        groups = groups[choose_evenly(groups, 5, size)]
        features = torch.randn(len(groups), 3, generator=generator)
        memory.push(features, groups)
        loop.push(features, groups)
        _assert_same(memory, loop)


def test_memory_takes_an_empty_push():
    memory = FeatureMemory(2, 3, 4)
    memory.push(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert memory.count.tolist() == [0, 0]


def test_memory_refuses_more_than_a_ring():
    with pytest.raises(ValueError, match="keeps 2; choose fewer"):
        FeatureMemory(1, 2, 4).push(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long))


def test_random_start_counts_as_data():
    memory = FeatureMemory(2, 6, 4, start="random")
    assert memory.count.tolist() == [6, 6]
    assert torch.allclose(memory.features.norm(dim=2), torch.ones(2, 6))
    assert torch.allclose(memory.sums, memory.features.double().sum(1))


def test_rank_in_group():
    rank, counts = rank_in_group(torch.tensor([2, 0, 2, 2, 0]), 4)
    assert rank.tolist() == [0, 0, 1, 2, 1]
    assert counts.tolist() == [2, 0, 3, 0]


@pytest.mark.parametrize("most", [1, 2, 5, 20])
def test_choose_evenly_equals_linspace(most):
    groups = torch.randint(0, 4, (300,), generator=torch.Generator().manual_seed(most))
    expected = []
    for group in range(6):
        members = (groups == group).nonzero().squeeze(1)
        if len(members) > most:
            members = members[torch.linspace(0, len(members) - 1, most, dtype=torch.int64)]
        expected += members.tolist()
    assert choose_evenly(groups, 6, most).tolist() == sorted(expected)


@pytest.mark.parametrize("n", range(21, 400, 7))
def test_choose_evenly_places(n):
    expected = torch.linspace(0, n - 1, 20, dtype=torch.int64)
    assert torch.equal(choose_evenly(torch.zeros(n, dtype=torch.long), 1, 20), expected)


def test_sums_do_not_drift():
    memory = FeatureMemory(1, 50, 16)
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        memory.push(F.normalize(torch.randn(20, 16, generator=generator)), torch.zeros(20, dtype=torch.long))
    assert torch.allclose(memory.sums, memory.features.double().sum(1), atol=1e-11)
