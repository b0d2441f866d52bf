"""A progress bar on stderr, for waits of more than a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PATIENCE: Final = 1.0
"""Seconds before anything is shown."""


class Progress:
    """A counter of bytes, which is shown on a terminal after :data:`PATIENCE`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.done = 0
        self.begun = time.monotonic()
        self.bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, length: int) -> None:
        """Add ``length`` bytes, and update the bar."""
        self.done += length
        if self.bar is None:
            if time.monotonic() - self.begun < PATIENCE or not sys.stderr.isatty():
                return
            self.bar = self._show()
        self.bar.update(self.bar.task_ids[0], completed=self.done)

    def _show(self) -> Bar:
        # Imported here, since its import takes longer than most commands.
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn
        from rich.progress import Progress as Bar

        bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        bar.add_task(self.title, total=None)
        bar.start()
        return bar
