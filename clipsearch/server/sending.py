"""Files that are being sent, as they are held in memory: bounded together, since clients may be slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from clipsearch.errors import ClipSearchError

MOST = 1 << 30
"""Bytes of all of them."""


LONG = 5
"""Seconds after which to try again what others do for long; clients wait no longer by themselves."""


class BusyError(ClipSearchError):
    """The server has as many requests as it takes; `retry_after`: seconds after which to try again."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        """Say what is busy, and for about how long."""
        super().__init__(message)
        self.retry_after = retry_after


class Sending:
    """Counts the bytes of files that are being sent. Safe to share by threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes that are being sent now."""
        return self._held

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Count a file for as long as it is sent. Raises BusyError beside too many others."""
        with self._lock:
            if self._held and self._held + size > MOST:
                raise BusyError(f"Pictures of {self._held:,} bytes are being sent. Try again in a second.")
            self._held += size
        try:
            yield
        finally:
            with self._lock:
                self._held -= size
