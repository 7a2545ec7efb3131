"""What requests bring: bounded in bytes, each and all together, in time, and in what JSON has to be made of it."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

_CLOSE = {"Connection": "close"}

_DIGITS = 18
"""Of a length at most: Python reads no number of thousands of them."""

MAX_VALUES, MAX_VALUES_OF_VECTORS = 200_000, 1_000_000
"""Values of a JSON body at most, by its punctuation: reading more of them would hold the event loop up too long."""

SMALL = 64 << 10
"""Bytes of a body that are always taken."""

MIN_RATE = 8192
"""Bytes a second that a request must bring on average."""


class Budget:
    """Bytes that all bodies under way may have together; of one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self, size: int) -> None:
        """Take bytes. Raises HTTPException where too few are left."""
        if self._taken + size > self._most:
            detail = f"Requests of {self._taken:,} bytes are under way. Try again in a second."
            raise HTTPException(429, detail, {"Retry-After": "1", **_CLOSE})
        self._taken += size

    def give_back(self, size: int) -> None:
        """Give bytes back that were taken."""
        self._taken -= size


class Body:
    """What a request brings: at most so many bytes, and at a rate that is no attack."""

    def __init__(self, receive: Receive, most: int, seconds: float, budget: Budget, *, values: int | None) -> None:
        """Read a body. values: of JSON at most; None for what is no JSON."""
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._budget = budget
        self._most_values = values
        self._end: float | None = None
        self._size = self._taken = self._values = 0
        self._is_complete = False

    def expect(self, length: str) -> None:
        """Take the bytes that the head of the request says. Raises HTTPException for too many."""
        if length.isdecimal():
            if len(length) > _DIGITS or int(length) > self._most:
                raise _too_large(self._most)
            self._take(int(length))

    def release(self) -> None:
        """Give back what was taken; the request has been answered."""
        self._budget.give_back(self._taken)

    async def __call__(self) -> Message:
        """Receive the next part. Raises HTTPException for what is too large, or too slow."""
        if self._is_complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._seconds
        try:
            async with asyncio.timeout_at(min(self._end + self._size / MIN_RATE, now + self._seconds)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The request came too slowly.", _CLOSE) from None
        if message["type"] == "http.request":
            self._count(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        return message

    def _count(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise _too_large(self._most)
        self._take(self._size)
        if self._most_values is not None:
            self._values += sum(map(part.count, (b",", b":", b"[", b"{")))
            if self._values > self._most_values:
                raise HTTPException(
                    413, f"The request has more than {self._most_values:,} values. Send fewer at a time.", _CLOSE
                )

    def _take(self, size: int) -> None:
        """Take as many bytes as are known of by now."""
        if size > max(self._taken, SMALL):
            self._budget.take(size - self._taken)
            self._taken = size


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"The request has more than {most:,} bytes. Send less.", _CLOSE)
