"""Micro-batches: searches that callers ask for at about the same time are answered together, by one thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakMethod

from clipsearch.errors import LibraryError
from clipsearch.forking import register
from clipsearch.query.options import SearchOptions
from clipsearch.types import Results

MAX_BATCH = 64
"""Searches that are answered together."""

MAX_WAIT, QUIET = 0.004, 0.001
"""Seconds that a search waits for others at most, and while no other comes. It only waits where others were there just
before, and so may ask again at once; who searches alone waits for nobody."""

IDLE = 10.0
"""Seconds after which a thread without work ends; the next search starts another."""

Answer = Callable[[SearchOptions, str, Sequence[Any]], list[Results]]


@dataclass(slots=True)
class _Request:
    """One search. name: `texts`, `images` or `vectors`, of which it is one. query: that text, picture or vector."""

    options: SearchOptions
    name: str
    query: Any
    future: Future[Results] = field(default_factory=Future)


class Batcher:
    """Collects searches and answers those of equal options together; safe to share by threads and event loops."""

    def __init__(self, answer: Answer) -> None:
        """Take what answers a batch: the options, what the queries are, and the queries."""
        # Weak, so that an engine that nobody closes goes as soon as nobody uses it, with the files that it has open.
        self._answer = WeakMethod(answer)
        self._is_closed = False
        self._renew()
        register(self)

    def _renew(self) -> None:
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sizes: dict[int, int] = {}
        self._expected = 1

    @property
    def sizes(self) -> dict[int, int]:
        """How many batches were answered, by the number of their searches."""
        return self._sizes.copy()

    def renew_after_fork(self) -> None:
        """Begin without requests: they are the parent's, and so is the thread."""
        self._renew()

    def submit(self, options: SearchOptions, name: str, query: Any) -> Future[Results]:  # noqa: ANN401
        """Ask for an answer. Raises LibraryError after `close`."""
        request = _Request(options, name, query)
        with self._changed:
            if self._is_closed:
                raise _closed()
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="clipsearch-batches", daemon=True)
                thread.start()  # which fails where there are too many
                self._thread = thread
            self._waiting.append(request)
            if len(self._waiting) == 1 or len(self._waiting) >= self._expected:
                self._changed.notify()
        return request.future

    def close(self) -> None:
        """Let all searches that wait fail with LibraryError; those that are being answered end as they would have."""
        with self._changed:
            self._is_closed = True
            pending, self._waiting = self._waiting, deque()
            self._changed.notify()
        for request in pending:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(_closed())

    def _work(self) -> None:
        while batch := self._collect():
            groups: list[list[_Request]] = []
            for request in batch:
                if not request.future.set_running_or_notify_cancel():
                    continue  # its caller has gone
                alike = (each for each in groups if _are_alike(each[0], request))
                if (group := next(alike, None)) is None:
                    groups.append([request])
                else:
                    group.append(request)
            for group in groups:
                self._sizes[len(group)] = self._sizes.get(len(group), 0) + 1
                self._serve(group)
            del batch, groups  # a thread that waits must not hold answers

    def _collect(self) -> list[_Request]:
        """Wait for requests; none where the thread is to end."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._is_closed, IDLE) or self._is_closed:
                self._thread = None
                return []
            end = time.monotonic() + MAX_WAIT
            while len(self._waiting) < self._expected and time.monotonic() < end:
                before = len(self._waiting)
                self._changed.wait(QUIET)
                if len(self._waiting) == before:
                    break
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._expected = len(batch)
            return batch

    def _serve(self, group: list[_Request]) -> None:
        """Answer a group of requests; if that fails, each by itself, so that an error reaches only its caller."""
        first = group[0]
        try:
            answer = self._answer()
            if answer is None:
                raise _closed()
            answers = answer(first.options, first.name, [request.query for request in group])
            del answer
        except Exception as error:  # whatever it is, it belongs to a caller, and this thread goes on
            if len(group) == 1:
                first.future.set_exception(error)
                return
            for request in group:
                self._serve([request])
            return
        for request, found in zip(group, answers, strict=True):
            request.future.set_result(found)


def _are_alike(one: _Request, other: _Request) -> bool:
    try:
        return one.name == other.name and bool(one.options == other.options)
    except Exception:  # of values that cannot be compared, as arrays; what is wrong with them, the answer says
        return False


def _closed() -> LibraryError:
    return LibraryError("The library was closed before this search was answered. Open it again: clipsearch.open(...)")
