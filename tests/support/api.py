"""The HTTP API of a library that may be changed, and an encoder that waits when a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

import clipsearch
from clipsearch.config import Settings
from clipsearch.query.engine import SearchEngine
from clipsearch.server import ServerSettings, create_app
from clipsearch.store.library import Library
from tests.support.serving import BEARER, TOKEN, serving

SMALL = Settings(threads=1, offline=True, batch_size=2)
"""A commit after each two files."""


@contextmanager
def writable(
    library: Path, encoder: Any, settings: Settings = SMALL, *, timeout: float = 30.0, **options: Any
) -> Iterator[FastAPI]:
    """An application that may change a library, which is made if it is not there; options: of ServerSettings."""
    with clipsearch.open(library, create=True, model="builtin-small", settings=settings):
        pass
    with SearchEngine(Library(library), settings, encoder, timeout=timeout, may_be_empty=True) as engine:
        yield create_app(engine, ServerSettings(token=TOKEN, allow_write=True, **options))


def ask(app: FastAPI) -> httpx.AsyncClient:
    """A client that has the token; a streamed response comes at its end."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=BEARER)


@contextmanager
def served(library: Path, encoder: Any, **options: Any) -> Iterator[tuple[FastAPI, str]]:
    """An application as `writable` makes it, served over real connections, and its address."""
    with writable(library, encoder) as app:
        engine = app.state.service.engine
        with serving(engine, token=TOKEN, allow_write=True, **options) as running:
            yield running.server.config.app, running.url


class Gate:
    """The real encoder, which waits before it encodes each batch of pictures once it is `closed`."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._open = threading.Event()
        self._open.set()
        self._first = 0
        self.reached = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def close(self, *, after: int = 0) -> None:
        """Let so many batches through, and hold the next."""
        self._first = after
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        """Let all through."""
        self._open.set()

    def encode_pixels(self, batch: Any) -> Any:
        if not self._open.is_set():
            self._first -= 1
            if self._first < 0:
                self.reached.set()
                assert self._open.wait(60)
        return self._encoder.encode_pixels(batch)
