"""Sending calls for asyncio: what `connection` does, awaited."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any, TypeVar

from clipsearch.client.calls import Call, Pause, Step, Steps, content_of
from clipsearch.client.connection import TOGETHER, Incoming, Link, Running, check_open
from clipsearch.client.problems import Reply, overdue, read_reply, unreachable, wait_for

T = TypeVar("T")


class AsyncConnection:
    """Sends calls and awaits the answers; of one event loop. Pictures are read, and answers too, in threads."""

    def __init__(self, link: Link) -> None:
        """Prepare; nothing is sent yet. Raises InvalidInputError for a link that cannot be used."""
        import httpx2

        self._link = link
        self._http = httpx2.AsyncClient(**link.options())
        self._is_closed = False

    async def close(self) -> None:
        """Close what is open."""
        self._is_closed = True
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Take steps to their end. Raises what they raise."""
        with closing(Running(steps)) as running:
            await asyncio.to_thread(running.go_on)
            while not running.is_over:
                try:
                    answer = await self._take(running.step)
                except Exception as error:
                    await asyncio.to_thread(running.go_on, error=error)
                else:
                    await asyncio.to_thread(running.go_on, answer)
            return running.result

    async def _take(self, step: Step) -> object:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Call):
            return await self._send(step)
        slots = asyncio.Semaphore(TOGETHER)

        async def send(call: Call[Any]) -> Any:  # noqa: ANN401 - as the call has it
            async with slots:
                return await self._send(call)

        tasks = [asyncio.create_task(send(call)) for call in step]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one that failed ends them all
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, call: Call[T]) -> T:
        """Send a call, again where the server is busy."""
        turn = 1
        while (seconds := wait_for(reply := await self._exchange(call), call, turn)) is not None:
            await asyncio.sleep(seconds)
            turn += 1
        return await asyncio.to_thread(read_reply, reply, call, self._link.address)

    async def _exchange(self, call: Call[Any]) -> Reply:
        import httpx2

        check_open(self._is_closed)
        given = {"params": call.params or None, **await asyncio.to_thread(content_of, call)}
        try:
            # Of httpx2 each byte of the head begins its own again.
            async with asyncio.timeout(self._link.timeout) as limit:
                incoming = Incoming(self._link, call)
                try:
                    return await self._receive(call, given, incoming, limit)
                except httpx2.HTTPError as error:
                    if not (call.is_repeatable and incoming.was_dropped(error)):
                        raise
                return await self._receive(call, given, Incoming(self._link, call), limit)
        except TimeoutError as error:
            raise overdue(self._link.address, self._link.timeout) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            raise unreachable(error, self._link.address, self._link.timeout) from error

    async def _receive(
        self, call: Call[Any], given: dict[str, Any], incoming: Incoming, limit: asyncio.Timeout
    ) -> Reply:
        async with self._http.stream(call.method, call.path, **given) as response:
            incoming.begin(response.status_code, response.headers)
            async for data in response.aiter_raw():
                if incoming.is_stream:  # to a disk, which would hold up the loop
                    more = await asyncio.to_thread(incoming.add, data)
                    limit.reschedule((limit.when() or 0.0) + more)
                else:
                    incoming.add(data)
            return incoming.reply(response.status_code, response.headers)
