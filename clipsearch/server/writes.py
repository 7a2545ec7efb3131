"""Changes of the library that requests ask for: one at a time, so that those that wait hold no thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from clipsearch.server.sending import BusyError
from clipsearch.server.service import OverdueError, Service

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

        Its turn lasts until the function has ended, also where it takes so long that the request is given up. Raises
        BusyError where too many wait, OverdueError where its turn does not come, and as `Service.run`.
        """
        if self._waiting >= MAX_WAITING:
            raise BusyError(f"{self._waiting} changes of the library are waiting. Try again in a second.")
        self._waiting += 1
        try:
            await self._take_turn()
            try:
                work = self._service.begin_upload(function, *args, **kwargs)
            except BaseException:
                self._turn.release()
                raise
            work.add_done_callback(lambda _: self._turn.release())
            return await self._service.result_of(work)
        finally:
            self._waiting -= 1

    async def _take_turn(self) -> None:
        seconds = self._service.settings.work_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
        except TimeoutError:
            raise OverdueError(
                f"Changes before this one take more than {seconds:g} seconds. Try again later."
            ) from None
