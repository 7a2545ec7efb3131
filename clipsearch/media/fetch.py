"""Fetch one picture from a URL safely: public addresses only, and limits of time, size and redirects.

httpcore2 speaks HTTP through a network of ours, which resolves a name once, checks every address of it and connects to
the very one that was checked, so that a name cannot lead elsewhere in between. TLS is verified against the name all the
same. httpcore2 knows neither proxies, cookies nor credentials, and follows no redirect by itself.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from http.client import responses
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

import httpcore2
import httpx2

from clipsearch import __version__
from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.media.decode import is_picture
from clipsearch.media.drawing import look_at_picture
from clipsearch.paths import printable

if TYPE_CHECKING:
    from httpcore2 import SOCKET_OPTION
    from PIL.Image import Image

    Resolve = Callable[[str, int], list[str]]

SECONDS = 30.0
"""How long all of it may take, from the name to the last byte."""

MAX_REDIRECTS = 5

_ADVICE = "Check the address, or download the picture and name the file."
_LONG = 100
_HEAD = 32
_BUSY = frozenset({429, 503})
_DEFAULT_WAIT = 1.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GLOBAL_UNICAST, _NAT64 = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")
_PROTOCOLS = IPv4Network("192.0.0.0/24")
"""Not public, which older Pythons do not know."""


class BusyError(PictureError):
    """The server asks to come back later. seconds: after how long."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def resolve(host: str, port: int) -> list[str]:
    """Resolve a host name to its addresses. Raises OSError or UnicodeError if the name does not resolve."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def fetch_picture(
    url: str,
    *,
    min_side: int,
    max_pixels: int,
    max_bytes: int,
    allow_private: bool = False,
    seconds: float = SECONDS,
    resolve: Resolve = resolve,
    network: httpcore2.NetworkBackend | None = None,
) -> Image:
    """Fetch a picture over http or https, into memory alone; the rest is as in `drawing.look_at_picture`.

    max_bytes: the longest answer that is read. allow_private: fetch from addresses that are not public too, such as
    those of this machine and of the local network. seconds: how long all of it may take. resolve: what knows the
    addresses of a name. network: what connects to an address.
    Up to MAX_REDIRECTS redirects are followed, each checked as the URL was, but never from https to http.
    Raises InvalidInputError for what cannot be fetched as it is written, PictureError, which names the URL, for what
    was not fetched or is no picture. Safe to call from several threads.
    """
    start = _parse(url)
    try:
        data = _fetch(start, max_bytes, allow_private, seconds, resolve, network)
        return look_at_picture(data, min_side, max_pixels)
    except PictureError as error:
        raise PictureError(f"{_shown(start)}: {error}") from error


def fetch_bytes(url: str, *, max_bytes: int, allow_private: bool = False, seconds: float = SECONDS) -> bytes:
    """Fetch the file of a picture, for whoever decodes it; the rest, and what is raised, is as in `fetch_picture`."""
    start = _parse(url)
    try:
        return _fetch(start, max_bytes, allow_private, seconds, resolve, None)
    except PictureError as error:
        raise PictureError(f"{_shown(start)}: {error}") from error


def _fetch(
    start: httpx2.URL,
    max_bytes: int,
    allow_private: bool,
    seconds: float,
    resolve: Resolve,
    network: httpcore2.NetworkBackend | None,
) -> bytes:
    deadline = _Deadline(seconds)
    guard = _Guard(network or httpcore2.SyncBackend(), resolve, allow_private, deadline)
    with httpcore2.ConnectionPool(network_backend=guard) as pool:
        return _follow(pool, start, max_bytes, deadline)


def is_public(address: str) -> bool:
    """Tell whether an address, IPv4 or IPv6, is one of the public internet; one within another is what counts."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (IPv4Address(found.packed[-4:]) if found in _NAT64 else None)
        if inner is None:
            return found in _GLOBAL_UNICAST and found.is_global
        found = inner
    return found.is_global and not found.is_multicast and found not in _PROTOCOLS


class _Deadline:
    """A moment in `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until then. Raises TimeoutError if that time has passed."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Guard(httpcore2.NetworkBackend):
    """Connects to checked addresses alone, until the deadline."""

    def __init__(
        self, network: httpcore2.NetworkBackend, resolve: Resolve, allow_private: bool, deadline: _Deadline
    ) -> None:
        self._network = network
        self._resolve = resolve
        self._allow_private = allow_private
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of the name that takes it. Raises PictureError if any of them is not public."""
        addresses = self._look_up(host, port)
        for address in addresses:
            self._check(host, address)
        for waiting in range(len(addresses), 0, -1):
            share = self._deadline.left() / waiting  # an address that never answers must leave time for the others
            try:
                stream = self._network.connect_tcp(addresses[-waiting], port, share, local_address, socket_options)
                return _Stream(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if waiting == 1:
                    raise
        raise PictureError(f"the name {host} has no address. {_ADVICE}")

    def _look_up(self, host: str, port: int) -> list[str]:
        """Resolve a name in a thread, as nothing else can put an end to that."""
        found: Future[list[str]] = Future()

        def work() -> None:
            try:
                found.set_result(self._resolve(host, port))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            return found.result(self._deadline.left())
        except (socket.gaierror, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not one"
            raise PictureError(f"the name {host} cannot be resolved ({reason}). {_ADVICE}") from error

    def _check(self, host: str, address: str) -> None:
        if self._allow_private or is_public(address):
            return
        what = f"{address} is" if host == address else f"{host} is at {address},"
        raise PictureError(
            f"{what} not a public address, so nothing was fetched. To allow "
            "addresses of this machine and its networks, "
            "set CLIPSEARCH_ALLOW_PRIVATE_URLS=1 (setting allow_private_urls)."
        )


class _Stream(httpcore2.NetworkStream):
    """A connection that ends at the deadline, however often a byte arrives before it."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _parse(text: str) -> httpx2.URL:
    """Read a URL as it was written. Raises InvalidInputError for one that is not taken."""
    _check_scheme(text.partition(":")[0].lower())
    if re.search(r"\s", text):
        advice = "Write %20 for a space in the URL, and a separate + before another term"
        raise InvalidInputError(f"There is a space in the URL {_cut(text)!r}. {advice}.")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError) as error:  # the second for bytes of an argument that are no UTF-8
        raise InvalidInputError(f"{_cut(text)!r} is not a URL: {error} {_ADVICE}") from error
    _check(url)
    return url


def _check(url: httpx2.URL) -> None:
    _check_scheme(url.scheme)
    if url.userinfo:
        raise InvalidInputError(
            f"The URL {_shown(url)} contains a user name or a password, which are not sent. Download the picture and "
            "name the file."
        )
    if not url.host or not 0 < (1 if url.port is None else url.port) < 65536:
        raise InvalidInputError(f"The URL {_shown(url)} names no server, or an impossible port. {_ADVICE}")


def _check_scheme(scheme: str) -> None:
    if scheme not in {"http", "https"}:
        raise InvalidInputError(
            f"The URL begins with {printable(scheme)}:, but pictures are fetched only over http: and https:. Name a "
            "file by its path instead."
        )


def _follow(pool: httpcore2.ConnectionPool, url: httpx2.URL, limit: int, deadline: _Deadline) -> bytes:
    """Return what a URL leads to, over redirects. Raises PictureError."""
    where = ""
    for _ in range(MAX_REDIRECTS + 1):
        try:
            found = _get(pool, url, limit)
        except PictureError as error:
            raise PictureError(f"{where}{error}") from error
        except InvalidInputError as error:
            raise PictureError(f"{where}it redirects to an address that is not allowed. {error}") from error
        except Exception as error:
            raise PictureError(f"{where}{_reason(error, deadline)}. {_ADVICE}") from error
        if isinstance(found, bytes):
            return found
        url, where = found, f"redirected to {_shown(found)}: "
    raise PictureError(f"redirected more than {MAX_REDIRECTS} times. {_ADVICE}")


def _get(pool: httpcore2.ConnectionPool, url: httpx2.URL, limit: int) -> bytes | httpx2.URL:
    """Return the bytes that a URL answers with, or the URL that it redirects to."""
    headers = [
        (b"Host", url.netloc),
        (b"User-Agent", f"clipsearch/{__version__}".encode()),
        (b"Accept", b"image/*,*/*;q=0.5"),
        (b"Accept-Encoding", b"identity"),
    ]
    target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    with pool.stream("GET", target, headers=headers) as answer:
        facts = {name.lower(): value.decode("utf-8", "replace") for name, value in answer.headers}
        if answer.status in _REDIRECTS and b"location" in facts:
            return _redirected(url, facts[b"location"])
        return _read(answer, facts, limit)


def _redirected(url: httpx2.URL, location: str) -> httpx2.URL:
    found = url.join(location)
    _check(found)
    if url.scheme == "https" and found.scheme == "http":
        raise PictureError(f"redirects from https to {_shown(found)}, which others can read and change. {_ADVICE}")
    return found


def _read(answer: httpcore2.Response, facts: dict[bytes, str], limit: int) -> bytes:
    if not 200 <= answer.status < 300:
        said = f"{answer.status} {responses.get(answer.status, '')}".strip()
        message = f"the server answers {said}. {_ADVICE}"
        if answer.status in _BUSY:
            raise BusyError(message, _retry_after(facts.get(b"retry-after", "")))
        raise PictureError(message)
    size = facts.get(b"content-length", "")
    if size.isdecimal() and int(size) > limit:
        raise PictureError(f"{size} bytes, over the limit of {limit} (setting max_picture_bytes)")
    data = bytearray()
    for chunk in answer.iter_stream():
        is_begun = len(data) >= _HEAD
        data += chunk
        if not is_begun and len(data) >= _HEAD:
            _check_head(bytes(data[:_HEAD]), facts)  # the rest of anything that is not a picture is not needed
        if len(data) > limit:
            raise PictureError(f"more bytes than the limit of {limit} (setting max_picture_bytes)")
    _check_head(bytes(data[:_HEAD]), facts)
    return bytes(data)


def _retry_after(value: str) -> float:
    """Return the seconds of a Retry-After header (RFC 9110, section 10.2.3); a default for anything else."""
    if value.strip().isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return _DEFAULT_WAIT


def _check_head(head: bytes, facts: dict[bytes, str]) -> None:
    if is_picture(head):
        return
    if facts.get(b"content-type", "").lower().startswith(("text/html", "application/xhtml")):
        raise PictureError("a web page, not a picture. Open it, and copy the address of the picture itself.")
    raise PictureError("not a picture that clipsearch can read" if head else "the answer is empty")


def _reason(error: Exception, deadline: _Deadline) -> str:
    """Say in a few words why nothing was fetched."""
    cause = error.args[0] if error.args and isinstance(error.args[0], OSError) else error  # as httpcore2 wraps it
    if isinstance(error, httpcore2.TimeoutException | TimeoutError):
        return f"it took longer than {deadline.seconds:g} seconds"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server cannot prove its identity ({cause.verify_message.rstrip('.')})"
    if isinstance(cause, ssl.SSLError):
        return "the server does not use TLS correctly"
    if isinstance(error, httpcore2.ConnectError):
        return f"the server cannot be reached ({getattr(cause, 'strerror', None) or cause})"
    if isinstance(error, httpcore2.ProtocolError | httpcore2.NetworkError):
        return "the answer of the server is cut off, or is not HTTP"
    if isinstance(error, httpx2.InvalidURL):
        return "it redirects to something that is not a URL"
    return f"it cannot be fetched ({type(error).__name__})"


def _shown(url: httpx2.URL) -> str:
    """Name a URL in a message, without a password, and without its query where that is long."""
    text = str(url.copy_with(userinfo=b"", fragment=None))
    return text if len(text) <= _LONG else _cut(text.partition("?")[0])


def _cut(text: str) -> str:
    return printable(text if len(text) <= _LONG else text[: _LONG - 1] + "…")
