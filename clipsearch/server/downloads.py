"""Downloads under way: archives that are made as fast as a client takes them, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipsearch.server.archives import zip_items
from clipsearch.server.sending import LONG, BusyError
from clipsearch.server.service import Service

MAX_DOWNLOADS = 8
"""At the same time."""


class Downloads:
    """Archives that are being sent; of one event loop."""

    def __init__(self, service: Service) -> None:
        """Send what the engine of a service has."""
        self._service = service
        self._active = 0

    @property
    def active(self) -> int:
        """How many are under way."""
        return self._active

    async def start(self, ids: Sequence[int]) -> AsyncIterator[bytes]:
        """Return the archive of items, piece by piece. Raises BusyError where too many are under way."""
        if self._active >= MAX_DOWNLOADS:
            raise BusyError(f"{self._active} downloads are under way. Try again in a few seconds.", LONG)
        pieces = self._send(ids)
        await anext(pieces)  # counts it at once; a generator that has begun also ends where nobody takes its pieces
        return pieces

    async def _send(self, ids: Sequence[int]) -> AsyncIterator[bytes]:
        self._active += 1
        loop = asyncio.get_running_loop()
        pieces = zip_items(self._service.engine, ids)
        thread = ThreadPoolExecutor(1, thread_name_prefix="clipsearch-download")
        try:
            yield b""
            while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
                yield piece
        finally:  # also when the client has gone: after the piece at work, the file is closed
            self._active -= 1
            thread.submit(pieces.close)
            thread.shutdown(wait=False)
