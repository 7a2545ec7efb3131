"""What a fork of this process makes new of what it was born with.

A child of `os.fork` has copies of connections to SQLite, of locks that threads held which it does not have, and of
models whose threads it lacks. SQLite forbids to use such a connection, and even to close it (sqlite.org/howtocorrupt,
2.6); a lock is never let go of; a model waits for its threads for ever. So whoever holds such things registers here,
and makes them again in the child.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from contextlib import suppress
from typing import Protocol

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


def _renew_all() -> None:
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
    os.register_at_fork(after_in_child=_renew_all)
