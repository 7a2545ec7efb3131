"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from clipsearch import present
from clipsearch.server.jobs import Job, JobStatus

MEDIA_TYPE = "text/event-stream"

HEARTBEAT = 15.0
"""Seconds after which a line that means nothing is sent, so that nothing between here and the client hangs up."""

_LOOK = 0.5
"""Seconds after which it is looked whether the server is stopping."""


async def job_events(
    job: Job, after: int, stopping: threading.Event, payload: Callable[[Job, JobStatus], object]
) -> AsyncIterator[bytes]:
    """Yield the events of a job after the one of a number, then each as it happens, up to its end.

    A listener that is slow holds nothing up: it misses what is no longer remembered, and goes on with what is.

    Args:
        job: Is watched.
        after: The number of an event; 0 for all that are remembered.
        stopping: Ends the events when it is set.
        payload: Makes the JSON value of an event, given the job and its status.
    """
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def notify() -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever listened
            loop.call_soon_threadsafe(changed.set)

    sent = time.monotonic()
    with job.watching(notify):
        while True:
            changed.clear()
            for number, status in job.events(after):
                after, sent = number, time.monotonic()
                yield _encode(number, "end" if status.is_over else "progress", payload(job, status))
                if status.is_over:
                    return
            if stopping.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _LOOK)
            if not changed.is_set() and time.monotonic() - sent >= HEARTBEAT:
                sent = time.monotonic()
                yield b": \n\n"


def _encode(number: int, name: str, value: object) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), present.to_json(value).rstrip(b"\n"))
