"""Progress of long work on a library."""

from __future__ import annotations

from typing import Protocol


class Stages(Protocol):
    """Where work says how far it is."""

    def stage(self, name: str, total: int) -> None:
        """Start a stage of so many steps; 0 if their number is unknown."""

    def advance(self, steps: int) -> None:
        """Say that so many more steps are done."""


class SilentStages:
    """Stages that nobody is shown."""

    def stage(self, name: str, total: int) -> None:
        """Ignore it."""

    def advance(self, steps: int) -> None:
        """Ignore it."""
