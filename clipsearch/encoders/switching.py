"""Threads that take turns more often while a GPU is fed.

A thread gives up the interpreter lock at every launch. If another thread runs Python meanwhile, it gets the lock back
only after the switch interval, five milliseconds by default: longer than a small tower takes (benchmarks/launches.py).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

SECONDS = 0.0005


class _Shortened:
    """The switch interval of the process, short while at least one thread asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = self._ours = 0.0

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = self._ours = sys.getswitchinterval()
                if self._before > SECONDS:
                    sys.setswitchinterval(SECONDS)
                    self._ours = sys.getswitchinterval()

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._ours == self._before or sys.getswitchinterval() != self._ours:
                return  # others need it; or nothing was changed, or the application has changed it since
            sys.setswitchinterval(self._before + 5e-7)  # setswitchinterval cuts off fractions of a microsecond


_shortened = _Shortened()


@contextlib.contextmanager
def short_interval() -> Iterator[None]:
    """Have threads switch every SECONDS; the last of the threads that ask for it restores what was before."""
    _shortened.enter()
    try:
        yield
    finally:
        _shortened.leave()
