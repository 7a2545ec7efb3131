"""Sending calls: over connections that are kept, within bounds of size and time, by a client that waits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from clipsearch import __version__
from clipsearch.client.address import Address
from clipsearch.client.calls import MAX_ANSWER, Call, Pause, Step, Steps, content_of
from clipsearch.client.deadline import Deadline
from clipsearch.client.problems import Reply, overdue, read_reply, unreachable, wait_for
from clipsearch.errors import InvalidInputError, LibraryError, ServerError
from clipsearch.forking import abandon, register

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

TOGETHER = 16
"""Requests of one method call that are under way at a time."""

CONNECT_SECONDS = 10.0
"""Seconds in which a connection must be made."""

KEEP_SECONDS = 3.0
"""Seconds that a connection without a request is kept: less than servers do, which would break the next request."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a client needs to know to connect. timeout: seconds for a request. ca_file: of certificates to trust."""

    address: Address
    timeout: float = 75.0
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout < 1e6:
            raise InvalidInputError(f"The timeout is {self.timeout!r}, but must be a number of seconds above 0.")

    def options(self) -> dict[str, Any]:
        """Return how httpx2 connects. Raises InvalidInputError for certificates that cannot be read."""
        import httpx2

        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"clipsearch/{__version__}"}
        if self.address.token is not None:
            headers["Authorization"] = f"Bearer {self.address.token}"
        return {
            "base_url": self.address.url,
            "headers": headers,
            "verify": self._trusted(),
            # A proxy would read what is not encrypted, and is no way to this machine.
            "trust_env": self.address.is_encrypted and not self.address.is_local,
            "timeout": httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECT_SECONDS)),
            "limits": httpx2.Limits(keepalive_expiry=KEEP_SECONDS),
            "follow_redirects": False,  # another server might get the token
        }

    def _trusted(self) -> Any:  # noqa: ANN401 - as httpx2 takes it
        if not self.address.is_encrypted:
            return False  # nothing is followed to where it would count; reading certificates takes a while
        if self.ca_file is None:
            return True
        import ssl

        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInputError(
                f"There are no certificates in {self.ca_file!r}: {error}. Name a PEM file."
            ) from error


LEAST_RATE = 16 << 10
"""Bytes of a stream that extend its time limit by one second."""


class Incoming:
    """An answer as it comes. Raises ServerError for one that is too large, compressed, or takes too long.

    is_stream: whether it goes on to what the call names, rather than being kept.
    """

    def __init__(self, link: Link, call: Call[Any]) -> None:
        self._link = link
        self._into = call.into
        self.is_stream = False
        self._end = time.monotonic() + link.timeout
        self._parts: list[bytes] = []
        self._size = 0
        self._has_begun = False

    def was_dropped(self, error: Exception) -> bool:
        """Tell whether the connection ended before the answer began, as where a server ends one that was idle."""
        import httpx2

        ended = isinstance(error, httpx2.ReadError | httpx2.WriteError) or (
            isinstance(error, httpx2.RemoteProtocolError) and "disconnected" in str(error)
        )
        return ended and not self._has_begun

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Look at the headers."""
        self._has_begun = True
        self.is_stream = self._into is not None and 200 <= status < 300
        if headers.get("content-encoding", "identity") != "identity":
            raise ServerError(
                f"{self._link.address.url} answers in an encoding that was not asked for. Check what it is."
            )
        written = "" if self.is_stream else headers.get("content-length", "")
        if written.isdecimal() and (len(written) > 18 or int(written) > MAX_ANSWER):
            raise self._too_large()

    def add(self, data: bytes) -> float:
        """Take the next bytes; return how many seconds more they allow."""
        more = 0.0
        if self.is_stream and self._into is not None:
            self._into(data)
            more = len(data) / LEAST_RATE
        else:
            self._parts.append(data)
            self._size += len(data)
        self._end += more
        if self._size > MAX_ANSWER:
            raise self._too_large()
        if time.monotonic() > self._end:
            raise overdue(self._link.address, self._link.timeout)
        return more

    def reply(self, status: int, headers: Mapping[str, str]) -> Reply:
        """Return all of it."""
        return Reply(status, {name.lower(): value for name, value in headers.items()}, b"".join(self._parts))

    def _too_large(self) -> ServerError:
        return ServerError(f"{self._link.address.url} answers with more than {MAX_ANSWER:,} bytes. Ask for fewer.")


class Running(Generic[T]):
    """Steps that are under way: what comes next, or their result. Close them where they are given up."""

    __slots__ = ("_steps", "is_over", "result", "step")

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.is_over = False
        self.step: Step = Pause(0)
        self.result: T

    def go_on(self, answer: object = None, error: Exception | None = None) -> None:
        """Run to the next step, with what the one before brought. Raises what the steps raise."""
        try:
            self.step = self._steps.send(answer) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.is_over, self.result = True, stop.value

    def close(self) -> None:
        """Let the steps undo what they have begun; after their end it does nothing."""
        with suppress(ValueError):  # a thread runs them still: they are closed once nothing refers to them
            self._steps.close()


def check_open(is_closed: bool) -> None:
    """Raise LibraryError for a client that is closed."""
    if is_closed:
        raise LibraryError("This client is closed. Make another: clipsearch.Client(url)")


class Connection:
    """Sends calls and waits for the answers; safe to share by threads, and after a fork."""

    def __init__(self, link: Link) -> None:
        """Prepare; nothing is sent yet. Raises InvalidInputError for a link that cannot be used."""
        self._link = link
        self._deadline = Deadline()
        self._http = self._build()
        self._is_closed = False
        register(self)

    def _build(self) -> httpx2.Client:
        import httpx2

        http = httpx2.Client(**self._link.options())
        self._deadline.bound(http)
        return http

    def renew_after_fork(self) -> None:
        """Let the parent have its connections."""
        abandon(self._http)
        self._http = self._build()

    def close(self) -> None:
        """Close what is open."""
        self._is_closed = True
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """Take steps to their end. Raises what they raise."""
        with closing(Running(steps)) as running:
            running.go_on()
            while not running.is_over:
                try:
                    answer = self._take(running.step)
                except Exception as error:
                    running.go_on(error=error)
                else:
                    running.go_on(answer)
            return running.result

    def _take(self, step: Step) -> object:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Call):
            return self._send(step)
        if len(step) == 1:
            return [self._send(step[0])]
        pool = ThreadPoolExecutor(TOGETHER, thread_name_prefix="clipsearch-client")
        try:
            return list(pool.map(self._send, step))
        finally:
            pool.shutdown(cancel_futures=True)

    def _send(self, call: Call[T]) -> T:
        """Send a call, again where the server is busy."""
        turn = 1
        while (seconds := wait_for(reply := self._exchange(call), call, turn)) is not None:
            time.sleep(seconds)
            turn += 1
        return read_reply(reply, call, self._link.address)

    def _exchange(self, call: Call[Any]) -> Reply:
        import httpx2

        check_open(self._is_closed)
        given = {"params": call.params or None, **content_of(call)}
        try:
            with self._deadline.within(self._link.timeout):
                incoming = Incoming(self._link, call)
                try:
                    return self._receive(call, given, incoming)
                except httpx2.HTTPError as error:
                    if not (call.is_repeatable and incoming.was_dropped(error)):
                        raise
                return self._receive(call, given, Incoming(self._link, call))
        except TimeoutError as error:
            raise overdue(self._link.address, self._link.timeout) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            raise unreachable(error, self._link.address, self._link.timeout) from error

    def _receive(self, call: Call[Any], given: dict[str, Any], incoming: Incoming) -> Reply:
        with self._http.stream(call.method, call.path, **given) as response:
            incoming.begin(response.status_code, response.headers)
            for data in response.iter_raw():
                self._deadline.end += incoming.add(data)
            return incoming.reply(response.status_code, response.headers)
