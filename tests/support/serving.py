"""Applications of clipsearch.server that are served: in the process, and over real connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from clipsearch.access import listen
from clipsearch.server.app import create_app
from clipsearch.server.connections import build_server
from clipsearch.server.settings import ServerSettings

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int
    server: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


def inside(engine: Any, **settings: Any) -> httpx.AsyncClient:
    """A client of an application in this process."""
    app = create_app(engine, ServerSettings(**settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8756")


@contextmanager
def serving(engine: Any, **settings: Any) -> Iterator[Served]:
    """Serve an engine over real connections."""
    chosen = ServerSettings(port=0, **settings)
    server = build_server(create_app(engine, chosen))
    with listen(chosen) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield Served(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join()


def connect(served: Served) -> socket.socket:
    """A connection of its own to a server."""
    return socket.create_connection(("127.0.0.1", served.port), timeout=20)
