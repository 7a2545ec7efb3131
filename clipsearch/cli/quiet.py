"""Keeping what Ray writes off the screen: its C++ part writes to the descriptors, its threads to Python's streams."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


class _OwnThreads:
    """A stream for our own threads; what those of Ray write is dropped."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - any stream of text
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, unless a thread of Ray does."""
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)


@contextmanager
def without_output_of_ray(is_used: bool) -> Iterator[None]:
    """Drop what Ray writes for the time of a run, if it is used; what we write to stdout and stderr is written."""
    with ExitStack() as stack:
        for name, number in (("stdout", 1), ("stderr", 2)) if is_used else ():
            stack.enter_context(_guarded(name, number))
        yield


@contextmanager
def _guarded(name: str, number: int) -> Iterator[None]:
    """Give a stream a descriptor of its own, and what else writes to its number the null device."""
    before = getattr(sys, name)
    before.flush()
    kept, null = os.dup(number), os.open(os.devnull, os.O_WRONLY)
    own = open(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    os.dup2(null, number)
    setattr(sys, name, _OwnThreads(own))
    try:
        yield
    finally:
        own.flush()
        setattr(sys, name, before)
        os.dup2(kept, number)
        os.close(kept)
        os.close(null)
