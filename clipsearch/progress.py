"""Progress of long work on a library."""

from __future__ import annotations

from typing import Protocol


class Stages(Protocol):
    """Where work says how far it is."""

    def stage(self, name: str, total: int) -> None:
        """Say what is done now, and in how many steps."""

    def advance(self, steps: int) -> None:
        """Say that so many more steps are done."""
