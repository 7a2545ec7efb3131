"""A time limit for a whole request. That of HTTP libraries is for each read, and each byte that arrives renews it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

_WRITTEN = 1 << 16
"""Bytes that are written at once: each piece gets what time is left."""


class Deadline(threading.local):
    """The time at which the request of a thread must have been answered."""

    end = float("inf")

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit what this thread does on connections inside the block."""
        self.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self.end = float("inf")

    def left(self, timeout: float | None) -> float:
        """Return the seconds that are left, `timeout` at most. Raises TimeoutError where there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("The time of the request is over.")
        return left if timeout is None else min(left, timeout)

    def bound(self, http: httpx2.Client) -> None:
        """Let the connections of a client end at the deadline, those through proxies too."""
        for transport in (http._transport, *http._mounts.values()):
            pool: Any = getattr(transport, "_pool", None)
            if pool is not None:  # httpcore2 takes a network backend, but httpx2 has no option for it
                pool._network_backend = _Network(pool._network_backend, self)


class _Network:
    """A `httpcore2.NetworkBackend` whose connections end at a deadline."""

    def __init__(self, network: Any, deadline: Deadline) -> None:  # noqa: ANN401 - httpcore2 has no types that we may import here
        self._network = network
        self._deadline = deadline

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _Stream:  # noqa: ANN401
        stream = self._network.connect_tcp(host, port, self._deadline.left(timeout), **options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._network.sleep(seconds)


class _Stream:
    """A `httpcore2.NetworkStream` that ends at a deadline, however often a byte arrives before it."""

    def __init__(self, stream: Any, deadline: Deadline) -> None:  # noqa: ANN401 - httpcore2 has no types that we may import here
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        read: bytes = self._stream.read(max_bytes, self._deadline.left(timeout))
        return read

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITTEN):
            self._stream.write(buffer[start : start + _WRITTEN], self._deadline.left(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:  # noqa: ANN401
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _Stream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore2 has it
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()
