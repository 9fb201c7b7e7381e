"""The loop that shows images to a network: in order, those of one shape together, errors at their turn."""

from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import InputError
from anomaly.models.loop import show
from anomaly.utils.profile import Profile

JOBS = [(0, "wide"), (1, "wide"), (2, "wide"), (3, "tall"), (4, "wide"), (5, "tall"), (6, "tall"), (7, "tall")]


def shape(item):
    return item[1]


def numbers(items):
    """What a network would answer."""
    return [10 * number for number, _ in items]


def collect(shown, into):
    """Keep the answers that come, as far as they come."""
    for _, answer in shown:
        into.append(answer)


class Groups:
    """Answers, and remembers what it was asked at once."""

    def __init__(self):
        self.asked = []

    def __call__(self, items):
        self.asked.append([number for number, _ in items])
        return numbers(items)


@pytest.mark.parametrize(
    ("batch", "groups"),
    [
        (1, [[0], [1], [2], [3], [4], [5], [6], [7]]),
        (2, [[0, 1], [2], [3], [4], [5, 6], [7]]),
        (3, [[0, 1, 2], [3], [4], [5, 6, 7]]),
        (9, [[0, 1, 2], [3], [4], [5, 6, 7]]),
    ],
)
def test_items_of_one_shape_that_follow_each_other_are_asked_together(batch, groups):
    ask = Groups()
    found = list(show(JOBS, tuple, ask, shape=shape, batch=batch))
    assert ask.asked == groups
    assert found == [(job, 10 * job[0]) for job in JOBS]


@given(shapes=st.lists(st.sampled_from("abc"), max_size=20), batch=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_every_item_comes_once_and_in_order(shapes, batch):
    ask, jobs = Groups(), list(enumerate(shapes))
    assert list(show(jobs, tuple, ask, shape=shape, batch=batch)) == [(job, 10 * job[0]) for job in jobs]
    assert all(len(group) <= batch and len({shapes[i] for i in group}) == 1 for group in ask.asked)
    assert [number for group in ask.asked for number in group] == list(range(len(shapes)))


def test_what_cannot_be_read_is_raised_at_its_turn():
    """What was read before it is still shown to the network and comes out."""

    def read(job):
        if job[0] == 4:
            raise InputError("4 cannot be read")
        return job

    found = []
    with pytest.raises(InputError, match="4 cannot be read"):
        collect(show(JOBS, read, numbers, shape=shape), into=found)
    assert found == [0, 10, 20, 30]


def test_what_the_network_refuses_is_raised_at_its_turn():
    def ask(items):
        if items[0][0] == 3:
            raise InputError("3 is refused")
        return numbers(items)

    found = []
    with pytest.raises(InputError, match="3 is refused"):
        collect(show(JOBS, tuple, ask, shape=shape, batch=2), into=found)
    assert found == [0, 10, 20]


def test_a_network_answers_about_every_item():
    with pytest.raises(ValueError, match="zip"):
        list(show(JOBS, tuple, lambda items: numbers(items)[:-1], batch=2))


def test_little_is_read_ahead_and_nothing_after_it_is_closed():
    read = []
    with closing(show(range(100), lambda job: read.append(job) or (job, ""), numbers, batch=2)) as shown:
        next(shown)
    assert read == list(range(len(read)))
    assert 2 <= len(read) <= 2 + 2 + 3


def test_time_of_the_network_and_of_waiting_is_told_apart():
    profile = Profile()
    list(show(JOBS, tuple, numbers, shape=shape, profile=profile))
    profile.stop()
    seconds = profile.seconds()
    assert seconds["forward"] > 0
    assert seconds["reading"] > 0
