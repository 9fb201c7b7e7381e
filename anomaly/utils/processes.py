"""The processes that share a piece of work: this one alone, or those of ``torch.distributed``."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

from anomaly.errors import InputError
from anomaly.utils.files import staged

T = TypeVar("T")
Short = TypeVar("Short")
PATIENCE = timedelta(days=30)
"""How long a process waits for the others; one that dies closes its connections, which ends the wait at once."""


@dataclass(frozen=True)
class Processes:
    """The processes that share a piece of work, and which of them this one is.

    Every process calls the methods that exchange something, in the same order and from one thread. Without arguments it
    is a single process, for which each exchange is the identity.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        group: Their gloo group; None for a single process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def of_default_group(cls) -> Processes:
        """Return the processes of the default group of ``torch.distributed``. Every process has to call this.

        Raises:
            InputError: There is no such group.
        """
        try:
            import torch.distributed as dist
        except ModuleNotFoundError:
            dist = None  # type: ignore[assignment]
        if dist is None or not dist.is_available() or not dist.is_initialized():
            raise InputError(
                "distributed=True: expected a process group of torch.distributed, found none; start the script with "
                "torchrun, and call torch.distributed.init_process_group first"
            )
        return cls(dist.get_rank(), dist.get_world_size()).another()

    def another(self) -> Processes:
        """Return the same processes with a group of their own, for exchanges in another thread."""
        if self.size == 1:
            return replace(self, group=None)
        import torch.distributed as dist

        return replace(self, group=apart(lambda: dist.new_group(backend="gloo", timeout=PATIENCE)))

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        apart(lambda: dist.all_gather_object(values, value, group=self.group))
        return values

    def wait(self) -> None:
        """Wait until every process is here."""
        self.gather(None)

    def from_first(self, value: T) -> T:
        """Return the value of process 0."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values: list[Any] = [value if self.rank == 0 else None]
        apart(lambda: dist.broadcast_object_list(values, src=0, group=self.group))
        found: T = values[0]
        return found

    def merge(self, metrics: Any) -> None:
        """Add the images of all processes to the metrics of process 0.

        Args:
            metrics: Metrics with ``gather``, such as :class:`anomaly.metrics.PixelMetrics`.

        Raises:
            InputError: A part cannot be merged; raised on every process.
        """
        if self.size > 1:
            apart(lambda: metrics.gather(self.group))

    def first_then_others(self, make: Callable[[], T]) -> T:
        """Call a function on process 0, then on all others, for example to create a folder and then to open it."""
        if self.rank == 0:
            made = make()
            self.wait()
            return made
        self.wait()
        return make()

    def check_same(self, what: str, value: object) -> None:
        """Check that a value is the same on every process.

        Args:
            what: What it is, for the message.
            value: The value. Of a dict, the message names an entry that differs.

        Raises:
            InputError: It differs; raised on every process.
        """
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != (first := values[0]):
                entry = ""
                if isinstance(first, dict) and isinstance(other, dict):
                    entry = next(f" ({key})" for key in {**first, **other} if first.get(key) != other.get(key))
                raise InputError(
                    f"process {rank}: expected the same {what} as process 0, found a difference{entry}; give every "
                    "process the same files and the same command"
                )

    def share(self, costs: Sequence[float]) -> list[int]:
        """Indices of the jobs that this process does, in ascending order.

        The most expensive job goes first, each to the process with the least work so far, so that all end at about the
        same time.

        Args:
            costs: Cost of each job, the same on every process.
        """
        loads = [(0.0, rank) for rank in range(self.size)]
        mine = []
        for job in sorted(range(len(costs)), key=lambda job: -costs[job]):
            load, rank = heapq.heappop(loads)
            heapq.heappush(loads, (load + costs[job], rank))
            if rank == self.rank:
                mine.append(job)
        return sorted(mine)

    def in_turn(self, jobs: Sequence[T]) -> Sequence[T]:
        """The jobs of this process if the processes take turns; :meth:`in_order` brings the results together."""
        return jobs[self.rank :: self.size]

    def in_order(self, count: int, done: Iterable[T], short: Callable[[T], Short]) -> Iterator[tuple[Short, T | None]]:
        """Yield the results of jobs that the processes do in turn, in the order of the jobs.

        Args:
            count: Number of jobs of all processes.
            done: Results of this process, for the jobs of :meth:`in_turn`.
            short: Returns the part of a result that every process needs.

        Yields:
            That part, and the result itself on the process that has it, None on the others.
        """
        mine = iter(done)
        for start in range(0, count, self.size):
            result = next(mine) if start + self.rank < count else None
            parts = self.gather(None if result is None else short(result))
            for rank, part in enumerate(parts[: count - start]):
                yield part, result if rank == self.rank else None  # type: ignore[misc]

    @contextmanager
    def staged(self, out: Path, names: tuple[str, ...]) -> Iterator[Path]:
        """Yield a folder to which all processes write; it becomes ``out`` when all of them succeed.

        See :func:`anomaly.utils.files.staged`. If a process fails, or is ended, the others remove the folder.

        Args:
            out: The folder to fill.
            names: All files and folders that the processes may write.

        Raises:
            InputError: ``out`` cannot be written to, or a process does not see the folder that process 0 makes.
        """
        if self.rank == 0:
            with staged(out, names) as folder:
                self.from_first(folder.absolute())
                yield folder
                self.wait()
            return
        folder = self.from_first(Path())
        if not folder.is_dir():
            raise InputError(
                f"process {self.rank}: expected the folder {folder.parent} that process 0 made, found none; name a "
                "folder that all processes share"
            )
        try:
            yield folder
            self.wait()
        except BaseException:
            rmtree(folder, ignore_errors=True)
            for place in (folder.parent / "old", folder.parent):  # process 0 may be gone; what is not empty stays
                with suppress(OSError):
                    place.rmdir()
            raise


ALONE = Processes()


def apart(call: Callable[[], T]) -> T:
    """Return the result of a call that runs in a thread of its own, so that a signal ends the wait for it at once.

    Args:
        call: Waits for other processes.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="exchange", daemon=True).start()
    return done.result()
