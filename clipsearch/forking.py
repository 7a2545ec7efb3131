"""What a fork of this process makes new of what it was born with.

A child of `os.fork` has copies of connections to SQLite, of locks that threads held which it does not have, and of
models whose threads it lacks. SQLite forbids to use such a connection, and even to close it (sqlite.org/howtocorrupt,
2.6); a lock is never let go of; a model waits for its threads for ever. So whoever holds such things registers here,
and makes them again in the child.

Libraries of others cannot be made again. OpenBLAS, by which NumPy multiplies, joins its threads in `fork` and waits for
ever if one is at work for another thread; if one of its locks is held then, the child waits for ever too. So a fork
waits for the searches under way (`no_fork`).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

MAX_WAIT = 10.0
"""Seconds that a fork waits for what other threads are doing, and they for the fork, at most."""

_holders: weakref.WeakSet[HoldsThreads] = weakref.WeakSet()


class HoldsThreads(Protocol):
    """What has connections, locks or threads."""

    def renew_after_fork(self) -> None:
        """Make them again, in the child; called by the one thread that it has."""


def register(holder: HoldsThreads) -> None:
    """Have something renewed in every child for as long as it is alive."""
    _holders.add(holder)


def abandon(*things: object) -> None:
    """Never destroy things of the parent, not even at the end of the process: to close them would harm or hang."""
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class _Gate:
    """Lets threads work or one fork, not both."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work: dict[int, int] = {}  # threads, with how often each is inside
        self._forks = 0

    def enter(self) -> None:
        """Begin to work, once no fork waits. A thread that is inside goes on: the fork waits for it."""
        thread = threading.get_ident()
        with self._changed:
            if thread not in self._at_work:
                self._changed.wait_for(lambda: not self._forks, MAX_WAIT)
            self._at_work[thread] = self._at_work.get(thread, 0) + 1

    def leave(self) -> None:
        thread = threading.get_ident()
        with self._changed:
            self._at_work[thread] -= 1
            if not self._at_work[thread]:
                del self._at_work[thread]
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread is at work; the lock is held from here on, so that none begins."""
        self._changed.acquire()
        self._forks += 1
        own = {threading.get_ident()}
        self._changed.wait_for(lambda: self._at_work.keys() <= own, MAX_WAIT)

    def after_fork(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def renew(self) -> None:
        """Begin again in the child, whose one thread may be at work."""
        own = threading.get_ident()
        self._changed, self._forks = threading.Condition(), 0
        self._at_work = {thread: depth for thread, depth in self._at_work.items() if thread == own}


_gate = _Gate()


@contextmanager
def no_fork() -> Iterator[None]:
    """Have a fork of this process wait, for MAX_WAIT at most, until this is done. Also a decorator."""
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


def _renew_all() -> None:
    _gate.renew()
    for holder in list(_holders):
        holder.renew_after_fork()
    if "onnxruntime" in sys.modules:
        _exit_without_destructors()


def _exit_without_destructors() -> None:
    """Have this process leave at the end of `exit`, before ONNX Runtime waits there for threads of the parent.

    Python has ended by then, with its own exit handlers. Only glibc has `on_exit`, which tells what the status is.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # These take locks before a fork, which a search may need to end. The hooks that are registered last run first.
    import concurrent.futures.thread  # noqa: F401
    import logging  # noqa: F401

    os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=_renew_all)
