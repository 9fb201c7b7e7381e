import pytest
import torch
import torch.nn.functional as F

from gmmseg.functional import direction_and_variance
from gmmseg.memory import FeatureMemory, places_of_even_choice, rank_in_group


class LoopMemory:
    """A list of blocks per group, each a list of features; the oldest block goes when the ring comes round to it."""

    def __init__(self, groups, size, block):
        self.data, self.blocks, self.block = [[] for _ in range(groups)], size // block, block

    def push(self, features, groups):
        for feature, group in zip(features, groups.tolist(), strict=True):
            blocks = self.data[group]
            if not blocks or len(blocks[-1]) == self.block:
                self.data[group] = blocks = [*blocks, []][-self.blocks :]
            blocks[-1].append(feature)


def _assert_same(memory, loop):
    for group, blocks in enumerate(loop.data):
        rows = [row for block in blocks for row in block]
        assert memory.count[group] == len(rows)
        expected = torch.stack(rows).double() if rows else torch.zeros(1, memory.sums.shape[1]).double()
        assert torch.allclose(memory.sums[group], expected.sum(0), atol=1e-5)
        assert torch.allclose(memory.square_sums[group], expected.square().sum(0), atol=1e-5)


def _random_pushes(memory, steps=60, most=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        groups = torch.randint(0, 5, (12,), generator=generator)
        rank, _ = rank_in_group(groups, 5)
        groups = groups[rank < most]
        features = F.normalize(torch.randn(len(groups), 3, generator=generator), dim=1)
        memory.push(features, groups)
        yield features, groups


@pytest.mark.parametrize(("size", "most_blocks"), [(1, 9), (4, 9), (7, 7), (12, 4), (12, 6), (20, 4), (3, 1)])
def test_memory_equals_lists(size, most_blocks):
    memory = FeatureMemory(5, size, 3, most_blocks=most_blocks)
    assert memory.blocks.shape[1] <= most_blocks
    loop = LoopMemory(5, size, memory.block)
    for features, groups in _random_pushes(memory, most=size - memory.block + 1):
        loop.push(features, groups)
        _assert_same(memory, loop)
        total = memory.blocks.double().sum(1)
        assert torch.allclose(memory.sums, total[:, 0], atol=1e-12)
        assert torch.allclose(memory.square_sums, total[:, 1], atol=1e-12)


def test_short_memory_keeps_every_feature_where_the_pointer_says():
    memory, ring, at = FeatureMemory(5, 7, 3), torch.zeros(5, 7, 3), [0] * 5
    for features, groups in _random_pushes(memory):
        for feature, group in zip(features, groups.tolist(), strict=True):
            ring[group, at[group]] = feature
            at[group] = (at[group] + 1) % 7
        assert torch.equal(memory.blocks[:, :, 0], ring)
        assert memory.pointer.tolist() == at


def test_blocks_give_the_moments_of_the_features():
    """At the paper's 1,000 blocks the moments of drifting features differ by far less than 1e-3."""
    plain, blocks = FeatureMemory(1, 4000, 16, most_blocks=4000), FeatureMemory(1, 4000, 16)
    assert (plain.block, blocks.block) == (1, 4)
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 16, generator=generator)
    for step in range(450):
        features = F.normalize(start.lerp(end, step / 450) + torch.randn(20, 16, generator=generator), dim=1)
        for memory in (plain, blocks):
            memory.push(features, torch.zeros(20, dtype=torch.long))
    assert 3997 <= blocks.count <= 4000 == plain.count
    (mean, variance), (other_mean, other_variance) = (
        direction_and_variance(m.sums, m.square_sums, m.count) for m in (plain, blocks)
    )
    assert (mean - other_mean).abs().max() < 1e-4
    assert (variance - other_variance).abs().max() < 1e-4


def test_coco_stuff_memory_is_below_a_gigabyte():
    with torch.device("meta"):
        memory = FeatureMemory(171 * 5, 32_000, 64)
    assert sum(b.numel() * b.element_size() for b in memory.buffers()) < 5e8


def test_memory_takes_an_empty_push():
    memory = FeatureMemory(2, 3, 4)
    memory.push(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert memory.count.tolist() == [0, 0]


@pytest.mark.parametrize(("most_blocks", "most"), [(9, 6), (3, 5)])
def test_memory_refuses_more_than_a_ring(most_blocks, most):
    memory = FeatureMemory(1, 6, 4, most_blocks=most_blocks)
    memory.push(torch.zeros(most, 4), torch.zeros(most, dtype=torch.long))
    with pytest.raises(ValueError, match=f"at most {most} features of each group"):
        memory.push(torch.zeros(most + 1, 4), torch.zeros(most + 1, dtype=torch.long))


@pytest.mark.parametrize("most_blocks", [3, 6])
def test_random_start_counts_as_data(most_blocks):
    memory = FeatureMemory(2, 6, 4, start="random", most_blocks=most_blocks)
    assert memory.count.tolist() == [6, 6]
    assert memory.pointer.tolist() == [0, 0]
    # unit vectors: their squares sum to their number
    assert torch.allclose(memory.square_sums.sum(1), torch.tensor([6.0, 6.0]).double(), atol=1e-6)
    assert torch.allclose(memory.sums, memory.blocks[:, :, 0].double().sum(1))


def test_rank_in_group():
    rank, counts = rank_in_group(torch.tensor([2, 0, 2, 2, 0]), 4)
    assert rank.tolist() == [0, 0, 1, 2, 1]
    assert counts.tolist() == [2, 0, 3, 0]


@pytest.mark.parametrize("most", [1, 2, 5, 20])
def test_even_choice_is_linspace(most):
    counts = torch.arange(0, 400)
    for count, places in zip(counts.tolist(), places_of_even_choice(counts, most), strict=True):
        expected = torch.arange(count)
        if count > most:
            expected = torch.linspace(0, count - 1, most, dtype=torch.int64)
        assert torch.equal(places[places >= 0], expected)
