"""What an indexing run reports: progress while it runs, a report at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from clipsearch.errors import InvalidInputError
from clipsearch.store.records import CommitCounts

MAX_FAILED = 1000
"""Rows of a data set that a report names; the others are counted."""


class Progress(Protocol):
    """Where a run says how far it is; called from the thread that runs it."""

    def scanned(self, files: int) -> None:
        """Say how many files the walk has seen."""

    def preparing(self) -> None:
        """Say that the encoder is loaded now; what it fetches or builds may show a progress of its own."""

    def start(self, total: int) -> None:
        """Say how many files need work."""

    def advance(self, files: int) -> None:
        """Say that so many more are done."""


class Silent:
    """Progress that goes nowhere."""

    def scanned(self, files: int) -> None:
        """Ignore it."""

    def preparing(self) -> None:
        """Ignore it."""

    def start(self, total: int) -> None:
        """Ignore it."""

    def advance(self, files: int) -> None:
        """Ignore it."""


class Calling:
    """Progress that calls a function with how many are done, and of how many; None while that is unknown."""

    def __init__(self, call: Callable[[int, int | None], None]) -> None:
        """Call a function."""
        self._call = call
        self._done = 0
        self._total: int | None = None

    def scanned(self, files: int) -> None:
        """Ignore it."""

    def preparing(self) -> None:
        """Ignore it."""

    def start(self, total: int) -> None:
        """Call with the total; what was done before, as the encoding before the text in pictures, is over."""
        self._done, self._total = 0, total
        self._call(0, total)

    def advance(self, files: int) -> None:
        """Call with how many are done now."""
        self._done += files
        self._call(self._done, self._total)


def reporting(call: Callable[[int, int | None], None] | None) -> Progress:
    """Return the progress that calls a function, if there is one. Raises InvalidInputError for anything else."""
    if call is not None and not callable(call):
        raise InvalidInputError(f"progress must be a function of two numbers, not {type(call).__name__}.")
    return Silent() if call is None else Calling(call)


@dataclass(slots=True)
class IndexReport:
    """The outcome of a run, in files.

    Attributes:
        added: How many are new.
        changed: How many have other content or captions than before.
        moved: How many are at another place than before.
        removed: How many are gone.
        unchanged: How many are as they were.
        encoded: How many had their vectors computed, not copied or kept.
        failed: The path of each that failed in this run, and the reason.
        failed_rows: How many rows of data sets failed in this run, of which `failed` has the first.
        unfetched: How many pictures of data sets were not fetched, since that was not asked for.
        notes: Of files that were indexed, or whose rows were, though something is missing: the path, and what.
        passed_over: How many files are of no kind that is indexed, by the endings of their names, the most first.
        beside: How many RAW files stand beside their JPEGs, and count once with them.
        live_photos: How many films of Live Photos count with their pictures.
        offline: Roots that could not be reached and were left as they are.
        relocated: The path that a root had, and the one that it has now.
        retired: Roots that are gone and no longer indexed, since all their files were found elsewhere.
        read: Pictures whose text was recognised.
        with_text: How many of them have any.
        interrupted: Whether the run stopped early; all before that is committed.
        seconds: Wall time.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    encoded: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_rows: int = 0
    unfetched: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    beside: int = 0
    live_photos: int = 0
    offline: list[str] = field(default_factory=list)
    relocated: list[tuple[str, str]] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    read: int = 0
    with_text: int = 0
    interrupted: bool = False
    seconds: float = 0.0

    def count_failed(self) -> int:
        """Count all that failed in this run, in files and rows."""
        return max(len(self.failed), self.failed_rows)

    def count(self, counts: CommitCounts) -> None:
        """Add what a commit did."""
        for name in counts.__slots__:
            setattr(self, name, getattr(self, name) + getattr(counts, name))
