"""How long work is stopped: the first Ctrl-C ends it after a batch, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from clipsearch.cli.options import note

_SHOW_CURSOR = "\x1b[?25h\n"


@contextmanager
def stop_flag() -> Iterator[threading.Event]:
    """Give a flag that the first Ctrl-C or SIGTERM sets; the second ends the process.

    Raising KeyboardInterrupt instead would hit whatever runs then, such as a connection that is being closed. What is
    committed stands whatever a process dies of.
    """
    flag = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if flag.is_set():
            if sys.stderr is not None and sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)  # which the progress bar hides
            note("Interrupted.")
            os._exit(130)
        flag.set()
        note("Stopping after this batch. Press Ctrl-C again to stop at once; what is committed stays.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        if not flag.is_set():  # else the process is about to end, and Ctrl-C is to end it at once until then
            for number, handler in before.items():
                signal.signal(number, handler)
