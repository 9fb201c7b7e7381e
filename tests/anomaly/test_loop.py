"""The loop that shows images to a network: in order, those of one shape together, errors at their turn."""

import threading
import time
from contextlib import closing, nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import InputError
from anomaly.models.loop import decoding_threads, show
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


# ---- two steps of reading


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_several_threads_decode_and_one_reads_in_order(threads, batch):
    """Decoding takes longest for the first job of each three, so that later ones are done earlier."""
    decoders, readers, read, most, now, lock = set(), set(), [], [0], [0], threading.Lock()

    def decode(job):
        with lock:
            decoders.add(threading.get_ident())
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.03 if job[0] % 3 == 0 else 0.002)
        with lock:
            now[0] -= 1
        return (100 + job[0], job[1])

    def reads(decoded):
        readers.add(threading.get_ident())
        read.append(decoded[0])
        return decoded

    found = list(show(JOBS, reads, numbers, decode=decode, threads=threads, shape=shape, batch=batch))
    assert found == [((100 + number, kind), 10 * (100 + number)) for number, kind in JOBS]
    assert read == [100 + number for number, _ in JOBS]
    assert (most[0], len(readers)) == (threads, 1)
    assert not decoders & (readers | {threading.get_ident()})


@pytest.mark.parametrize("step", ["decode", "read"])
def test_what_cannot_be_decoded_is_raised_at_its_turn(step):
    def refuses(job):
        if job[0] == 4:
            raise InputError("4 cannot be read")
        return job

    steps = {"decode": tuple, "read": tuple} | {step: refuses}
    found = []
    with pytest.raises(InputError, match="4 cannot be read"):
        collect(show(JOBS, steps["read"], numbers, decode=steps["decode"], threads=3, shape=shape), into=found)
    assert found == [0, 10, 20, 30]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_few_are_decoded_ahead_and_none_after_the_loop_ended(error):
    decoded = []

    def decode(job):
        decoded.append(job)
        return (job, "")

    before = threading.active_count()
    shown = show(range(100), tuple, numbers, decode=decode, threads=3, batch=2)
    with pytest.raises(error) if error else nullcontext(), closing(shown):
        next(shown)
        if error:
            raise error
    after = len(decoded)
    assert 2 <= after <= 2 + 2 + 3 + 1
    assert sorted(decoded) == list(range(after))
    time.sleep(0.05)
    assert len(decoded) == after
    assert threading.active_count() == before


def test_a_network_on_the_cpu_keeps_its_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    on_gpu, on_cpu = (SimpleNamespace(device=torch.device(kind)) for kind in ("cuda", "cpu"))
    assert [decoding_threads(model) for model in (on_gpu, on_cpu, object(), None)] == [4, 1, 1, 1]
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert decoding_threads(on_gpu) == 2


def test_seconds_of_several_threads_are_added():
    ready, clock = threading.Barrier(4), [0.0]
    profile = Profile(clock=lambda: clock[0])

    def work():
        with profile.stage("reading", background=True):
            ready.wait()
            ready.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()  # all three are in the stage
    clock[0] = 2.0
    ready.wait()
    for thread in threads:
        thread.join()
    assert "6.00 s" in str(profile)
