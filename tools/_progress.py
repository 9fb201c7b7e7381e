"""The progress bar of the tools: frames per second and time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class FramesPerSecond(ProgressColumn):
    """Frames done per second, over the last half minute."""

    def render(self, task: Task) -> Text:
        """Show the speed once it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} frames/s" if speed else "")


def frame_progress() -> Progress:
    """Make a progress bar on stderr that counts frames."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        FramesPerSecond(),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(stderr=True),
    )
