"""The loop that runs a network on images: it reads ahead, batches items of one size, and predicts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from anomaly.utils.background import read_ahead
from anomaly.utils.profile import Profile

Job = TypeVar("Job")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def show(
    jobs: Iterable[Job],
    read: Callable[[Job], Item],
    ask: Callable[[Sequence[Item]], Sequence[Answer]],
    *,
    shape: Callable[[Item], Hashable] = lambda item: None,
    batch: int = 1,
    profile: Profile | None = None,
) -> Generator[tuple[Item, Answer], None, None]:
    """Read items in another thread, predict items of one shape together, and yield results in order.

    Args:
        jobs: What to read.
        read: Reads the item of a job. It runs in one background thread, ``batch + 2`` items ahead.
        ask: Runs the network on a batch of items; returns a result for each.
        shape: Items with equal values of this function are batched together.
        batch: Largest number of items in a batch.
        profile: Receives the seconds spent waiting for items (``reading``) and in the network (``forward``).

    Yields:
        Each item with its result.

    Raises:
        InputError: Whatever ``read`` or ``ask`` raises, when the item is due.
    """
    profile = profile or Profile()
    with closing(read_ahead(read, jobs, batch + 2)) as items:
        for group in _groups(_timed(items, profile), batch, shape):
            with profile.stage("forward"):
                answers = ask(group)
            yield from zip(group, answers, strict=True)


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
