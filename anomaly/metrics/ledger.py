"""How much memory the scores of a run hold, whatever metrics they belong to."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

from anomaly.metrics.runs import MemoryRun
from anomaly.utils.given import whole


class Ledger:
    """One limit for all metrics that share it.

    Sorted runs of scores hold memory while they live, and give it back when the last metrics that use them are dropped
    or reset, or move them to disk; a run that two metrics share, merged one into the other, counts once. Half of the
    limit may be held; the other half is for putting scores in order. A copy, or what comes out of a pickle, has the
    limit and holds nothing.

    Args:
        limit: Bytes.

    Raises:
        InputError: The limit is not a whole number above 0.

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
        self._dropped: deque[tuple[int, int]] = deque()  # told by the garbage collector, in whatever thread it runs
        self._lock = threading.Lock()

    @classmethod
    def of(cls, budget: int | Ledger) -> Ledger:
        """The ledger itself, or a new one of so many bytes."""
        return budget if isinstance(budget, Ledger) else cls(budget)

    @property
    def held(self) -> int:
        """Bytes that living runs hold, at most half of the limit."""
        with self._lock:
            return self._settled()

    def hold(self, *runs: MemoryRun) -> bool:
        """Let runs hold their memory, all or none; say whether there was room. Those that hold it already need none."""
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
        """Take dropped runs off; under the lock."""
        while self._dropped:
            key, size = self._dropped.popleft()
            self._runs.discard(key)
            self._held -= size
        return self._held

    def __reduce__(self) -> tuple[Any, ...]:
        return Ledger, (self.limit,)
