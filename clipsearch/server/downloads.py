"""Downloads under way: what is made as fast as a client takes it, archives and exports, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor

from clipsearch.server.sending import LONG, BusyError
from clipsearch.server.service import Service

MAX_DOWNLOADS = 8
"""At the same time."""


class Downloads:
    """Archives and exports that are being sent; of one event loop."""

    def __init__(self, service: Service) -> None:
        """Prepare. service: its library is sent."""
        self._service = service
        self._active = 0

    @property
    def active(self) -> int:
        """How many are under way."""
        return self._active

    async def start(self, pieces: Generator[bytes]) -> AsyncIterator[bytes]:
        """Return pieces as they are taken; they are made in a thread, the first at once.

        Raises BusyError where too many are under way, ReplacedError, OverdueError where the first takes too long, and
        what making it raises.
        """
        self._service.require_library()
        if self._active >= MAX_DOWNLOADS:
            raise BusyError(f"{self._active} downloads are under way. Try again in a few seconds.", LONG)
        sent = self._send(pieces)
        await anext(sent)  # counts it at once; a generator that has begun also ends where nobody takes its pieces
        return sent

    async def _send(self, pieces: Generator[bytes]) -> AsyncIterator[bytes]:
        self._active += 1
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="clipsearch-download")
        try:
            piece = await self._service.result_of(loop.run_in_executor(thread, next, pieces, None))
            yield b""
            while piece is not None:
                yield piece
                piece = await loop.run_in_executor(thread, next, pieces, None)
        finally:  # also when the client has gone: after the piece at work, the file is closed
            self._active -= 1
            thread.submit(pieces.close)
            thread.shutdown(wait=False)
