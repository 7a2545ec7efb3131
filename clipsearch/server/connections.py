"""The server below the application: connections that must send something in time, and a stop that waits for answers."""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from clipsearch.access import listen
from clipsearch.server.problems import problem
from clipsearch.server.settings import ServerSettings

MAX_HEAD = 16 << 10
"""Bytes of the head of a request at most."""

KEEP_SECONDS = 130
"""Seconds that a connection without a request is kept: longer than clients and proxies do (60 in nginx, 120 in Caddy).
Where both end it at the same time, a request that was just sent gets no answer.
"""

STOP_SECONDS = 10
"""Seconds that a server which stops waits for requests."""


class _Connection(H11Protocol):
    """A connection that is cut off where a head does not come in time, or a response is not read.

    uvicorn itself would wait for ever. Where there are too many connections, one that waits for a request makes room:
    the oldest of the address that has most of them. Where all are at work, a new one is answered with 503.
    """

    head_seconds = 10.0
    send_seconds = 60.0
    max_connections = 512
    waiting: ClassVar[dict[_Connection, str]]
    """Connections that wait for a request, the oldest first, with their addresses; of one server."""

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._make_room():
            self.app = _refuse
        self._expect_head()

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._cancel()

    def data_received(self, data: bytes) -> None:
        if self in self.waiting and self._deadline is None:
            self._expect_head()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._wait()
        if self.conn.trailing_data[0]:  # the next head has begun
            self._expect_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._cancel_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._cancel_reading()
        self._reading = self.loop.call_later(self.send_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._cancel_reading()
        super().resume_writing()

    def _cancel_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _make_room(self) -> bool:
        """Cut off another connection that waits for a request; return whether there was one."""
        if not self.waiting:
            return False
        address = Counter(self.waiting.values()).most_common(1)[0][0]
        oldest = next(each for each, where in self.waiting.items() if where == address)
        oldest._cancel()
        oldest.transport.abort()
        return True

    def _wait(self) -> None:
        self._cancel()
        self.waiting[self] = self.client[0] if self.client else ""

    def _expect_head(self) -> None:
        self._wait()
        self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _cancel(self) -> None:
        self.waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """A server that says when it begins to stop, so that responses without an end can end."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request of a connection that is one too many."""
    headers = {"Retry-After": "1", "Connection": "close"}
    detail = "All connections of the server are at work. Try again in a second."
    await problem(503, "busy", "Too many connections", detail, headers=headers)(scope, receive, send)


def build_server(app: FastAPI) -> uvicorn.Server:
    """Build the server of an application of `create_app`; run it with the socket of `clipsearch.access.listen`."""
    settings: ServerSettings = app.state.service.settings
    names = ("head_seconds", "send_seconds", "max_connections")
    bounds = {**{name: getattr(settings, name) for name in names}, "waiting": {}}
    config = uvicorn.Config(
        app,
        http=type("Connection", (_Connection,), bounds),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.allowed_hosts),
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=KEEP_SECONDS,
    )
    return _Server(config, app.state.service.stopping)


def serve(app: FastAPI, ready: Callable[[str], None]) -> None:
    """Serve until the process is interrupted or terminated; then answer what was asked, and return.

    ready: is called with the address. Raises InvalidInputError where the server cannot listen.
    """
    settings: ServerSettings = app.state.service.settings
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # uvicorn sends itself the signal again once it has stopped
    with listen(settings) as listener:
        server = build_server(app)
        gc.collect()
        gc.freeze()  # what is loaded stays: looking through it for garbage would hold up requests for 60 ms each time
        try:
            ready(f"http://{settings.name}:{listener.getsockname()[1]}")
            asyncio.run(functools.partial(server.serve, sockets=[listener])())
        except KeyboardInterrupt:
            return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
