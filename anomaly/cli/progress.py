"""Progress of the commands: a bar in a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS = 20.0  # seconds between two lines of a log


class FramesPerSecond(ProgressColumn):
    """Speed in frames per second, over the last half minute."""

    def render(self, task: Task) -> Text:
        """Show the speed as soon as it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} frames/s" if speed else "")


class LineProgress(Progress):
    """Progress for logs: a line at intervals, and one at the end of each task, instead of a bar."""

    def __init__(self, *columns: ProgressColumn, console: Console) -> None:
        super().__init__(*columns, console=console, disable=True)
        self._written: dict[TaskID, float] = {}

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Update a task, and write a line if it is time."""
        super().update(task_id, **fields)
        self._write(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task, and write a line if it is time."""
        super().advance(task_id, advance)
        self._write(task_id)

    def _write(self, task_id: TaskID) -> None:
        task, now = self._tasks[task_id], time.monotonic()
        last = self._written.setdefault(task_id, now)
        if last == float("inf") or (not task.finished and now - last < SECONDS):
            return
        self._written[task_id] = float("inf") if task.finished else now
        speed, left = task.finished_speed or task.speed, task.time_remaining
        total = "" if task.total is None else f" of {task.total:g} ({task.percentage:.0f} %)"
        words = [f"{task.description}: {task.completed:g}{total}"]
        words += [f"{speed:.3g} a second"] if speed else []
        words += [f"{left:.0f} s left"] if left and not task.finished else []
        print(", ".join(words), file=sys.stderr, flush=True)


def frame_progress() -> Progress:
    """Progress in frames, on stderr."""
    return _progress(MofNCompleteColumn(), FramesPerSecond())


def progress_of(bars: Progress) -> Callable[[str, int], Callable[[], None]]:
    """The progress callback of an evaluation, shown as bars. A bar's time starts with its first frame."""

    def add(what: str, total: int) -> Callable[[], None]:
        bar = bars.add_task(what, total=total, start=False)

        def advance() -> None:
            bars.start_task(bar)
            bars.advance(bar)

        return advance

    return add


def download_progress() -> Progress:
    """Progress in bytes, on stderr."""
    return _progress(DownloadColumn())


def _progress(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn(compact=True))
    if console.is_terminal:
        return Progress(*shown, TextColumn("left"), console=console)
    return LineProgress(*shown, console=console)
