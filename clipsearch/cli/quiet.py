"""Keeping off the screen what libraries write past Python, such as libtiff its warnings, and Ray its messages.

Libraries in C write to the descriptors 1 and 2, whatever Python's streams are. For the time of a run these descriptors
lead elsewhere, and Python's streams have descriptors of their own, so what we write is shown as ever.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from typing import Any

logger = logging.getLogger("clipsearch")

_BLOCK = 1 << 16
_MAX_LINE = 1000
_MOST_LINES = 10_000
"""Lines of one run that are logged: a file may cause any number of warnings."""


class _OwnThreads:
    """A stream for our own threads; what those of Ray write is dropped."""

    def __init__(self, stream: TextIOWrapper) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, unless a thread of Ray does."""
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)


def show_details(wanted: bool) -> None:
    """Show what is logged of single files, if that is wanted."""
    if wanted:
        logger.setLevel(logging.DEBUG)


@contextmanager
def quiet_libraries(*, uses_ray: bool = False) -> Iterator[None]:
    """Log, at level DEBUG, what libraries write to stdout and stderr for the time of a run; what we write is written.

    uses_ray: drops it instead, and what threads of Ray write to Python's streams. With CLIPSEARCH_DEBUG set all is
    written, since what a crash says would be lost here.
    """
    if os.environ.get("CLIPSEARCH_DEBUG") and not uses_ray:
        yield
        return
    with ExitStack() as stack:
        for name, number in (("stdout", 1), ("stderr", 2)):
            target = stack.enter_context(_null_device() if uses_ray else _logged())
            stack.enter_context(_guarded(name, number, target, is_ours_alone=uses_ray))
        yield


@contextmanager
def _guarded(name: str, number: int, target: int, *, is_ours_alone: bool) -> Iterator[None]:
    """Give a stream a descriptor of its own, and what else writes to its number the target."""
    before = getattr(sys, name)
    before.flush()
    kept = os.dup(number)
    own = open(kept, "w", buffering=1, encoding=before.encoding, errors="backslashreplace", closefd=False)
    os.dup2(target, number)
    setattr(sys, name, _OwnThreads(own) if is_ours_alone else own)
    try:
        yield
    finally:
        setattr(sys, name, before)
        os.dup2(kept, number)
        try:
            _finish(own)
        except OSError:
            if name != "stderr":  # what nobody can read stops nothing
                raise
        finally:
            os.close(kept)


def _finish(stream: TextIOWrapper) -> None:
    """Write what a stream holds. Raises OSError if that fails; the stream then holds nothing."""
    try:
        stream.flush()
    except OSError:
        with _null_device() as null:
            os.dup2(null, stream.fileno())
        stream.flush()
        raise


@contextmanager
def _null_device() -> Iterator[int]:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        yield null
    finally:
        os.close(null)


@contextmanager
def _logged() -> Iterator[int]:
    """Give the end of a pipe whose other end a thread logs, line by line.

    It never blocks who writes: a library may hold the lock of the interpreter, for which the thread waits. What does
    not fit is lost.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    thread = threading.Thread(target=_log_lines, args=(read,), name="library-output", daemon=True)
    thread.start()
    try:
        yield write
    finally:
        os.close(write)
        thread.join(timeout=1)  # a process that a library started may still hold the pipe


def _log_lines(read: int) -> None:
    """Log what comes out of a pipe until nobody writes to it."""
    lines, rest = 0, b""
    with open(read, "rb", buffering=0) as pipe:
        while data := pipe.read(_BLOCK):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                lines += 1
                if line.strip() and lines <= _MOST_LINES:
                    _log(line)
            rest = rest[-_MAX_LINE:]
    if rest.strip():
        _log(rest)


def _log(line: bytes) -> None:
    logger.debug("a decoder says: %s", line[:_MAX_LINE].decode("utf-8", "replace"))
