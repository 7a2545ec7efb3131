"""Changes of the library that requests ask for: one at a time, so that those that wait hold no thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from clipsearch.server.service import BusyError, Service

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 32
"""Changes that wait for their turn."""


class Writes:
    """Lets changes take turns; of one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function that changes the library, in a thread.

        Raises BusyError where too many wait, and as `Service.run`.
        """
        if self._waiting >= MAX_WAITING:
            raise BusyError(f"{self._waiting} changes of the library are waiting. Try again in a second.")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._service.run_upload(function, *args, **kwargs)
        finally:
            self._waiting -= 1
