"""Time measurement by stage of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

STAGES = ("reading", "forward", "scores", "metrics", "pictures", "report")


class Profile:
    """Seconds by stage: wall-clock time of the main thread, and busy time of the background threads.

    The seconds of the main thread add up to the wall time. Those of several background threads in one stage are added,
    and may exceed it. A stage whose work is done in the background only counts the
    time that the main thread waits for it. Time of the main thread outside all stages is ``other``. The wall clock runs
    from the creation of the profile to :meth:`stop`.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self._wall: float | None = None
        self._main = dict.fromkeys(STAGES, 0.0)
        self._background = dict.fromkeys(STAGES, 0.0)
        self._lock = Lock()

    @contextmanager
    def stage(self, name: str, background: bool = False) -> Iterator[None]:
        """Count the ``with`` block for a stage. Any number of background threads may be in a stage at a time.

        Args:
            name: One of ``STAGES``.
            background: Whether the block runs in a background thread.
        """
        seconds = self._background if background else self._main
        start = self._clock()
        try:
            yield
        finally:
            with self._lock:
                seconds[name] += self._clock() - start

    def stop(self) -> None:
        """Stop the wall clock; no stage may be entered afterwards."""
        self._wall = self._clock() - self._start

    def seconds(self) -> dict[str, float]:
        """Seconds of the main thread in each stage, then ``other``, then their sum, ``wall``."""
        wall = self._clock() - self._start if self._wall is None else self._wall
        return {**self._main, "other": wall - sum(self._main.values()), "wall": wall}

    def background(self) -> dict[str, float]:
        """Seconds of the background threads in each stage, added over threads."""
        return dict(self._background)

    def overhead(self) -> float:
        """Share of the wall time, in 0..1, that is neither the forward pass nor reading images."""
        seconds = self.seconds()
        return 1.0 - (seconds["forward"] + seconds["reading"]) / seconds["wall"]

    def __str__(self) -> str:
        """A table with the seconds of each stage in the main thread, their share, and the seconds in the background."""
        seconds = self.seconds()
        rows = [f"{'':<9}{'main thread':>20}{'background':>13}"]
        for name, spent in seconds.items():
            beside = self._background.get(name)
            rows.append(
                f"{name:<9}{spent:9.2f} s{100 * spent / seconds['wall']:7.1f} %"
                + (f"{beside:11.2f} s" if beside else "")
            )
        rows.append(f"outside forward and reading: {100 * self.overhead():.1f} % of the main thread's time")
        return "\n".join(rows)
