"""A memory limit that several metrics share."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

from anomaly.metrics.runs import MemoryRun
from anomaly.utils.given import whole


class Ledger:
    """A memory limit for the scores of all metrics that share it.

    Sorted runs of scores count towards the limit until the last metrics that use them are deleted, reset, or move them
    to disk. A run that two metrics share after a merge counts once. Runs may take half of the limit; the other half is
    for sorting. A copied or unpickled ledger has the same limit and counts no runs.

    Args:
        limit: Number of bytes.

    Raises:
        InputError: ``limit`` is not a whole number above 0.

    Examples:
        >>> import numpy as np
        >>> ledger = Ledger(100)
        >>> run = MemoryRun(np.zeros(12, np.float32))
        >>> ledger.hold(run), ledger.held, ledger.hold(MemoryRun(np.zeros(1, np.float32)))
        (True, 48, False)
        >>> del run
        >>> ledger.held
        0
    """

    def __init__(self, limit: int) -> None:
        self.limit = whole("memory_budget", limit, 1, "a number of bytes above 0")
        self._held = 0
        self._runs: set[int] = set()
        self._dropped: deque[tuple[int, int]] = deque()  # filled by the garbage collector, in any thread
        self._lock = threading.Lock()

    @classmethod
    def of(cls, budget: int | Ledger) -> Ledger:
        """Return ``budget`` if it is a ledger, else a new ledger of so many bytes."""
        return budget if isinstance(budget, Ledger) else cls(budget)

    @property
    def held(self) -> int:
        """Bytes of the runs that exist now, at most half of the limit."""
        with self._lock:
            return self._settled()

    def hold(self, *runs: MemoryRun) -> bool:
        """Count runs towards the limit, all or none of them.

        Args:
            *runs: Runs in memory; those counted already need no further room.

        Returns:
            Whether there was room.
        """
        with self._lock:
            held = self._settled()
            new = {id(run): run for run in runs if id(run) not in self._runs}
            added = sum(run.nbytes for run in new.values())
            if held + added > self.limit / 2:
                return False
            self._held = held + added
            self._runs |= new.keys()
        for key, run in new.items():
            weakref.finalize(run, self._dropped.append, (key, run.nbytes)).atexit = False
        return True

    def _settled(self) -> int:
        """Subtract deleted runs; call it with the lock held."""
        while self._dropped:
            key, size = self._dropped.popleft()
            self._runs.discard(key)
            self._held -= size
        return self._held

    def __reduce__(self) -> tuple[Any, ...]:
        return Ledger, (self.limit,)
