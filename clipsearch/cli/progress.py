"""Progress of an indexing run on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.cli.options import note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from clipsearch.progress import Stages
    from indexer.report import Progress

EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Words:
    """What a run looks at, and what it does with it."""

    unit: str = "files"
    doing: str = "Indexing"
    to_do: str = "to index"


@contextmanager
def make_progress(words: Words | None = None) -> Iterator[Progress]:
    """Give the progress that fits stderr; words: those of indexing unless given."""
    words = words or Words()
    if not sys.stderr.isatty():
        yield Lines(words)
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
        yield Bars(bar, words)
    finally:
        bar.stop()


@contextmanager
def make_build_progress() -> Iterator[Stages]:
    """Give the progress of a build that fits stderr."""
    if not sys.stderr.isatty():
        yield BuildLines()
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        yield BuildBars(bar)


class BuildBars:
    """The stages of a build as bars, one after the other."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("Building", total=None)

    def stage(self, name: str, total: int) -> None:
        """Begin a stage; without a total the bar only moves."""
        self._bar.reset(self._task, total=total or None, description=name)

    def advance(self, steps: int) -> None:
        """Count steps that are done."""
        self._bar.advance(self._task, steps)


class BuildLines:
    """The stages of a build as plain lines, a few seconds apart."""

    def __init__(self) -> None:
        self._name, self._total, self._done = "", 0, 0
        self._last = time.monotonic()

    def stage(self, name: str, total: int) -> None:
        """Name the stage."""
        self._name, self._total, self._done = name, total, 0
        note(name)
        self._last = time.monotonic()

    def advance(self, steps: int) -> None:
        """Count steps that are done."""
        self._done += steps
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            total = f" of {self._total:,}" if self._total else ""
            note(f"{self._name}: {self._done:,}{total}")


class Bars:
    """Progress as a bar; while it is shown, it stands in for stderr, so nothing else may draw there."""

    def __init__(self, bar: Bar, words: Words) -> None:
        self._bar = bar
        self._words = words
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
        self._bar.reset(self._task, total=total, description=self._words.doing, rate="")
        self._bar.start()
        self._started = time.monotonic()

    def advance(self, files: int) -> None:
        """Count files that are done."""
        self._bar.advance(self._task, files)
        done = self._bar.tasks[0].completed
        rate = done / max(time.monotonic() - self._started, 1e-6)
        self._bar.update(self._task, rate=f"{rate:,.0f} {self._words.unit}/s")


class Lines:
    """Progress as plain lines, a few seconds apart."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._total = 0
        self._done = 0
        self._started = self._last = time.monotonic()

    def scanned(self, files: int) -> None:
        """Count files of the walk."""
        self._done += files
        self._say(f"scanned {self._done:,} {self._words.unit}")

    def preparing(self) -> None:
        """Say nothing: the encoder speaks for itself."""

    def start(self, total: int) -> None:
        """Begin to index."""
        self._total, self._done = total, 0
        self._started = self._last = time.monotonic()
        unit = self._words.unit.removesuffix("s") if total == 1 else self._words.unit
        note(f"{total:,} {unit} {self._words.to_do}")

    def advance(self, files: int) -> None:
        """Count files that are done."""
        self._done += files
        rate = self._done / max(time.monotonic() - self._started, 1e-6)
        unit = self._words.unit
        if not self._total:  # of a data set, whose rows are not counted before
            self._say(f"{self._done:,} {unit}, {rate:,.0f} {unit}/s")
            return
        left = (self._total - self._done) / rate
        self._say(f"{self._done:,} of {self._total:,} {unit}, {rate:,.0f} {unit}/s, {left:,.0f} s left")

    def _say(self, line: str) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            note(line)
