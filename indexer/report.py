"""What an indexing run reports: progress while it runs, a report at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from clipsearch.store.records import CommitCounts


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


@dataclass(slots=True)
class IndexReport:
    """The outcome of a run, in files.

    encoded: files whose vectors were computed (not copied or kept). failed: (path, reason) of what failed in this
    run. offline: roots that could not be reached and were left as they are. read, with_text: pictures whose text was
    recognised, and how many of them have any. interrupted: stopped early, all before committed. seconds: wall time.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    encoded: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    offline: list[str] = field(default_factory=list)
    read: int = 0
    with_text: int = 0
    interrupted: bool = False
    seconds: float = 0.0

    def count(self, counts: CommitCounts) -> None:
        """Add what a commit did."""
        for name in counts.__slots__:
            setattr(self, name, getattr(self, name) + getattr(counts, name))
