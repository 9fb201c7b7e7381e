"""The loop that runs a network on images: it reads ahead, batches items of one size, and predicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from anomaly.utils.background import read_ahead, read_in_two_steps
from anomaly.utils.devices import on_device
from anomaly.utils.profile import Profile

THREADS = 4
"""Largest number of threads that decode images for a network on a GPU."""

Job = TypeVar("Job")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def show(
    jobs: Iterable[Job],
    read: Callable[[Any], Item],
    ask: Callable[[Sequence[Item]], Sequence[Answer]],
    *,
    decode: Callable[[Job], Any] | None = None,
    threads: int = 1,
    shape: Callable[[Item], Hashable] = lambda item: None,
    batch: int = 1,
    profile: Profile | None = None,
) -> Generator[tuple[Item, Answer], None, None]:
    """Read items in another thread, predict items of one shape together, and yield results in order.

    Args:
        jobs: What to read.
        read: Reads the item of a job, or makes it of what ``decode`` returns. It runs in one background thread, in
            order, ``batch + 2`` items ahead, or ``batch + 1 + threads`` with ``decode``.
        ask: Runs the network on a batch of items; returns a result for each.
        decode: The part of reading that may run in several threads at once; None if there is none.
        threads: Number of threads that decode; see :func:`decoding_threads`.
        shape: Items with equal values of this function are batched together.
        batch: Largest number of items in a batch.
        profile: Receives the seconds spent waiting for items (``reading``) and in the network (``forward``).

    Yields:
        Each item with its result.

    Raises:
        InputError: Whatever ``decode``, ``read`` or ``ask`` raises, when the item is due.
    """
    profile = profile or Profile()
    if decode is None:
        reading = read_ahead(read, jobs, batch + 2)
    else:
        reading = read_in_two_steps(decode, read, jobs, batch + 1 + threads, threads)
    with closing(reading) as items:
        for group in _groups(_timed(items, profile), batch, shape):
            with profile.stage("forward"):
                answers = ask(group)
            yield from zip(group, answers, strict=True)


def decoding_threads(model: Any) -> int:
    """Number of threads that decode images for a model: several if it is on a GPU, as a CPU has no cores to spare.

    Args:
        model: The model; None if there is none.
    """
    return min(THREADS, os.cpu_count() or 1) if on_device(model) else 1


def _groups(items: Iterator[Item], most: int, shape: Callable[[Item], Hashable]) -> Iterator[list[Item]]:
    group: list[Item] = []
    for item in items:
        if group and (len(group) >= most or shape(item) != shape(group[0])):
            yield group
            group = []
        group.append(item)
        if len(group) >= most:
            yield group
            group = []
    if group:
        yield group


def _timed(items: Iterator[Item], profile: Profile) -> Iterator[Item]:
    nothing: Any = object()
    while True:
        with profile.stage("reading"):
            item = next(items, nothing)
        if item is nothing:
            return
        yield item
