"""Background threads: read the next frames early, finish the last ones late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Job = TypeVar("Job")
Decoded = TypeVar("Decoded")
Item = TypeVar("Item")


def read_ahead(
    read: Callable[[Job], Item], jobs: Iterable[Job], ahead: int = 3, threads: int = 1
) -> Generator[Item, None, None]:
    """Yield ``read(job)`` for each job in order, reading ahead in the background.

    By default one thread reads, so ``read`` needs no locks. An error in ``read`` is raised when its result is due.
    Closing the generator, also by an error or Ctrl-C in the loop over it, drops jobs that have not started.

    Args:
        read: Reads the item of a job.
        jobs: The jobs.
        ahead: Largest number of results that are read before they are needed.
        threads: Number of reading threads.
    """
    pending: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(read, job))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def read_in_two_steps(
    decode: Callable[[Job], Decoded],
    read: Callable[[Decoded], Item],
    jobs: Iterable[Job],
    ahead: int = 3,
    threads: int = 1,
) -> Generator[Item, None, None]:
    """Yield ``read(decode(job))`` for each job in order, as :func:`read_ahead` does, with several threads that decode.

    One more thread calls ``read``, in the order of the jobs, so ``read`` needs no locks. An error in either is raised
    when its result is due.

    Args:
        decode: First step; it must be safe to call from several threads.
        read: Second step.
        jobs: The jobs.
        ahead: Largest number of results of either step that are kept before they are needed.
        threads: Number of decoding threads.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:

        def decoded() -> Iterator[Future[Decoded]]:
            return (pool.submit(decode, job) for job in jobs)

        try:
            yield from read_ahead(lambda future: read(future.result()), decoded(), ahead)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Worker:
    """One background thread that does jobs in order; a context manager.

    Leaving the context drops jobs that have not started, so call :meth:`finish` first.

    Args:
        backlog: Number of jobs that may wait; beyond it, :meth:`submit` waits for the oldest.
    """

    def __init__(self, backlog: int = 4) -> None:
        self._backlog = backlog
        self._pending: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="worker")

    def submit(self, job: Callable[..., None], *args: Any) -> None:
        """Run ``job(*args)`` in the background. Raises the error of an earlier job as soon as it is known."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= self._backlog):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(job, *args))

    def finish(self) -> None:
        """Wait until all jobs are done. Raises the error of a job."""
        while self._pending:
            self._pending.popleft().result()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
