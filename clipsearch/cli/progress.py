"""Progress of an indexing run on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clipsearch.cli.options import count_files, note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from indexer.report import Progress

EVERY_SECONDS = 5.0


@contextmanager
def make_progress() -> Iterator[Progress]:
    """Give the progress that fits stderr."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    try:
        yield Bars(bar)
    finally:
        bar.stop()


class Bars:
    """Progress as a bar; while it is shown, it stands in for stderr, so nothing else may draw there."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("Scanning", total=None, rate="")
        self._started = time.monotonic()

    def scanned(self, files: int) -> None:
        """Count files of the walk."""
        self._bar.start()
        self._bar.advance(self._task, files)

    def preparing(self) -> None:
        """Leave the terminal to the encoder, which may draw a progress of its own."""
        self._bar.stop()

    def start(self, total: int) -> None:
        """Begin to index."""
        self._bar.reset(self._task, total=total, description="Indexing", rate="")
        self._bar.start()
        self._started = time.monotonic()

    def advance(self, files: int) -> None:
        """Count files that are done."""
        self._bar.advance(self._task, files)
        done = self._bar.tasks[0].completed
        rate = done / max(time.monotonic() - self._started, 1e-6)
        self._bar.update(self._task, rate=f"{rate:,.0f} files/s")


class Lines:
    """Progress as plain lines, a few seconds apart."""

    def __init__(self) -> None:
        self._total = 0
        self._done = 0
        self._started = self._last = time.monotonic()

    def scanned(self, files: int) -> None:
        """Count files of the walk."""
        self._done += files
        self._say(f"scanned {self._done:,} files")

    def preparing(self) -> None:
        """Say nothing: the encoder speaks for itself."""

    def start(self, total: int) -> None:
        """Begin to index."""
        self._total, self._done = total, 0
        self._started = self._last = time.monotonic()
        note(f"{count_files(total)} to index")

    def advance(self, files: int) -> None:
        """Count files that are done."""
        self._done += files
        rate = self._done / max(time.monotonic() - self._started, 1e-6)
        left = (self._total - self._done) / rate
        self._say(f"{self._done:,} of {self._total:,} files, {rate:,.0f} files/s, {left:,.0f} s left")

    def _say(self, line: str) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            note(line)
