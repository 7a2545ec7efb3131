"""What the routes share: the engine, its work in a bounded number of threads, and a bounded number of requests."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request

from clipsearch.errors import ClipSearchError
from clipsearch.query.engine import SearchEngine
from clipsearch.query.joint.part import LocalPart
from clipsearch.server.sending import LONG, BusyError, Sending
from clipsearch.server.settings import ServerSettings
from clipsearch.store.reading import catalog_file
from clipsearch.types import Results

P = ParamSpec("P")
T = TypeVar("T")


UPLOAD_THREADS = 2
"""Threads for what requests bring, such as pictures."""

MATCHES = 2
"""Pictures that are compared with others at a time; each may take half a minute."""


LOOK_SECONDS = 1.0
"""Seconds after which it is looked whether the library is still there."""


class OverdueError(ClipSearchError):
    """The work of a request took too long."""

    retry_after = 5


class ReplacedError(ClipSearchError):
    """The library was deleted since the server started, or another is in its place."""


class Service:
    """An engine as routes use it.

    Attributes:
        engine: Its blocking methods are called through `run`.
        part: Its library, for whoever searches it together with others.
        settings: Of the server.
        stopping: Is set as soon as the server begins to stop: a response without an end, such as a stream of events,
            ends then.
        sending: Files that are being sent.
    """

    def __init__(self, engine: SearchEngine, settings: ServerSettings) -> None:
        """Share an engine, which the caller closes after the service."""
        self.engine = engine
        self.part = LocalPart(engine, own=False)
        self.settings = settings
        self.stopping = threading.Event()
        self.sending = Sending()
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="clipsearch-server")
        self._uploads = ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix="clipsearch-uploads")
        self._matches = ThreadPoolExecutor(MATCHES, thread_name_prefix="clipsearch-matches")
        self._matching = 0
        self._pending = 0
        self._catalog = self._identify()
        self._looked_at, self._is_replaced = time.monotonic(), False

    @property
    def pending(self) -> int:
        """How many requests are at work or wait."""
        return self._pending

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread.

        Raises BusyError where too many are waiting, OverdueError where it takes too long; what the function raises.
        """
        return await self._run_in(self._pool, functools.partial(function, *args, **kwargs))

    async def run_upload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do as `run` with what a request brought. Pictures that take long to decode hold up only each other."""
        return await self._run_in(self._uploads, functools.partial(function, *args, **kwargs))

    async def run_match(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do as `run` with a comparison of pictures. Raises BusyError also beside MATCHES others: none waits."""
        if self._matching >= MATCHES:
            raise BusyError(f"{MATCHES} pictures are being compared. Try again in a few seconds.", LONG)
        work = self._begin(self._submit(self._matches, functools.partial(function, *args, **kwargs)))
        self._matching += 1
        work.add_done_callback(self._end_match)
        return await self.result_of(work)

    def begin_upload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Begin what `run_upload` does; `result_of` waits for it. Raises BusyError and ReplacedError."""
        return self._begin(self._submit(self._uploads, functools.partial(function, *args, **kwargs)))

    async def _run_in(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        return await self.result_of(self._begin(self._submit(pool, function)))

    def _submit(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> Callable[[], Awaitable[T]]:
        call = functools.partial(contextvars.copy_context().run, function)
        return lambda: asyncio.get_running_loop().run_in_executor(pool, call)

    async def search(self, query: Any = None, **options: Any) -> Results:  # noqa: ANN401 - as `asearch`
        """Search by one query, as `SearchEngine.asearch` does. Raises as `run` does."""
        found = await self.result_of(self._begin(lambda: self.engine.asearch(query, **options)))
        assert isinstance(found, Results)
        return found

    def _begin(self, start: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Begin work; it counts as pending until it ends, also where its request was given up."""
        self.require_library()
        if self._pending >= self.settings.max_queue:
            raise BusyError(f"The server is at work on {self._pending} requests. Try again in a second.")
        self._pending += 1
        work = asyncio.ensure_future(start())
        work.add_done_callback(self._end)
        return work

    async def result_of(self, work: asyncio.Future[T]) -> T:
        """Await work that was begun. Raises OverdueError where it takes too long, and goes on."""
        try:
            return await asyncio.wait_for(asyncio.shield(work), self.settings.work_seconds)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            raise OverdueError("The server stopped before this was answered. Ask again once it runs.") from None
        except TimeoutError:
            if work.done():
                return work.result()
            seconds = self.settings.work_seconds
            raise OverdueError(
                f"The work took more than {seconds:g} seconds, and was given up. Ask for less."
            ) from None

    def require_library(self) -> None:
        """Raise ReplacedError if the library is no longer that of the start; it is looked for once a second at most.

        What was deleted can still be read here, since it is open, but nobody else sees it, and it is lost in the end.
        """
        now = time.monotonic()
        if self._is_replaced or now - self._looked_at >= LOOK_SECONDS:
            self._is_replaced, self._looked_at = self._identify() != self._catalog, now
        if self._is_replaced:
            raise ReplacedError("The library was deleted or replaced. Restart the server.")

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = os.stat(catalog_file(self.engine.library.folder))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _end(self, work: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if not work.cancelled():
            work.exception()  # nobody else may look at it

    def _end_match(self, _: asyncio.Future[Any]) -> None:
        self._matching -= 1

    def close(self) -> None:
        """Wait for work that was begun; what waits is dropped."""
        self.stopping.set()
        for pool in (self._pool, self._uploads, self._matches):
            pool.shutdown(wait=True, cancel_futures=True)


async def get_service(request: Request) -> Service:
    """Return the service of the application of a request."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(get_service)]
