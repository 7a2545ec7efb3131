"""What went wrong, as the errors that an engine raises: problem details of the server, and what the network says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any, TypeVar

from clipsearch.client.address import Address
from clipsearch.client.calls import Call
from clipsearch.client.reading import Fields, parse
from clipsearch.errors import (
    AccessDeniedError,
    ClipSearchError,
    EncoderMismatchError,
    EncoderUnavailableError,
    InvalidInputError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    PictureError,
    ServerBusyError,
    ServerError,
    StoreCorruptError,
)

T = TypeVar("T")

MAX_WAIT = 5.0
"""The most seconds after which a request that was refused is sent again."""

MAX_TURNS = 4
"""How often a request is sent at most."""

_LONG = 4000
_URN = "urn:clipsearch:problem:"

_KINDS: dict[str, type[ClipSearchError]] = {
    "busy": ServerBusyError,
    "overdue": ServerBusyError,
    "invalid-input": InvalidInputError,
    "too-large": InvalidInputError,
    "unreadable-media": PictureError,
    "empty-library": LibraryNotFoundError,
    "library-locked": LibraryLockedError,
    "conflict": LibraryLockedError,
    "encoder-mismatch": EncoderMismatchError,
    "encoder-unavailable": EncoderUnavailableError,
    "store-corrupt": StoreCorruptError,
    "library": LibraryError,
    "library-replaced": LibraryError,
    "token-needed": AccessDeniedError,
    "forbidden": AccessDeniedError,
}
"""Error by the kind of the problem; any other is a ServerError."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered. headers: by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_reply(reply: Reply, call: Call[T], address: Address) -> T:
    """Return the result of a call. Raises the error that the server reports, or ServerError for any other answer."""
    if not 200 <= reply.status < 300:
        raise error_of(reply, call, address)
    try:
        return call.read(parse(reply.body) if call.is_json else reply.body)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ServerError(
            f"{address.url} answers {call.path} with what cannot be read: {why}. Check that clipsearch serve of this "
            "version is there."
        ) from error


def wait_for(reply: Reply, call: Call[Any], turn: int) -> float | None:
    """Return after how many seconds a call is sent again; None if it is not. turn: how often it was sent.

    What was refused for the load (429) was not begun with. What took too long (503) may go on.
    """
    if turn >= MAX_TURNS or not (reply.status == 429 or (reply.status == 503 and call.is_repeatable)):
        return None
    written = reply.headers.get("retry-after", "")
    seconds = float(written) if written.isascii() and written.isdigit() and len(written) < 6 else None
    return None if seconds is None or seconds > MAX_WAIT else seconds


def error_of(reply: Reply, call: Call[Any], address: Address) -> ClipSearchError:
    """Return the error that an answer reports."""
    try:
        problem = parse(reply.body)
    except (ValueError, RecursionError):
        return _foreign(reply, address)
    found = error_of_problem(problem, call.missing)
    if found is None:
        return _foreign(reply, address)
    return _denied(address) if problem["type"] == f"{_URN}token-needed" else found


def error_of_problem(value: object, missing: type[ClipSearchError] = ServerError) -> ClipSearchError | None:
    """Return the error that problem details stand for, a JSON value; None for any other. missing: where nothing is."""
    try:
        problem = Fields(value)
        kind = problem.text("type")
        detail = (problem.text("detail") if "detail" in problem else problem.text("title"))[:_LONG]
        position = problem.whole("position") if "position" in problem else None
    except ValueError:
        return None
    if not kind.startswith(_URN):
        return None
    kind = kind.removeprefix(_URN)
    if kind == "query-syntax":
        from clipsearch.query.parser import QuerySyntaxError

        return QuerySyntaxError(detail, position)
    if kind == "not-found":
        return missing(detail)
    return _KINDS.get(kind, ServerError)(detail)


def _denied(address: Address) -> ClipSearchError:
    if address.token is not None:
        return AccessDeniedError(f"{address.url} does not take the token. Use that which it was started with.")
    return AccessDeniedError(
        f"{address.url} needs a token: --token-file or CLIPSEARCH_TOKEN; in Python: Client({address.url!r}, token=...)"
    )


def _foreign(reply: Reply, address: Address) -> ClipSearchError:
    """Return the error of an answer that no server of ours gives; maybe a proxy before it does."""
    said = f"{reply.status} {responses.get(reply.status, '')}".strip()
    if 300 <= reply.status < 400:
        where = reply.headers.get("location", "")[:200]
        return ServerError(
            f"{address.url} redirects to {where!r}, which is not followed. Give that address if it is the right one."
        )
    if reply.status == 413:
        return InvalidInputError(f"{address.url} does not take a request of this size. Send less at a time.")
    if reply.status in (401, 403, 407):
        return AccessDeniedError(f"{address.url} answers {said}: a proxy before the server does not let this through.")
    if reply.status in (502, 503, 504):
        return ServerError(f"{address.url} answers {said}: a proxy is there, but no server. Start clipsearch serve.")
    return ServerError(f"{address.url} answers {said}, which clipsearch serve does not. Check the address.")


def unreachable(error: Exception, address: Address, seconds: float) -> ClipSearchError:
    """Return the error of a request that brought no answer. seconds: how long it may take."""
    import httpx2

    if isinstance(error, httpx2.ConnectTimeout):
        return ServerError(f"No connection to {address.url} could be made in time. Check the address and the network.")
    if isinstance(error, httpx2.TimeoutException):
        return overdue(address, seconds)
    if "CERTIFICATE" in str(error) or "certificate" in str(error) or "ssl" in str(error).lower():
        return ServerError(
            f"{address.url} cannot be trusted: {error}. Check the address. For a certificate of your own authority: "
            "SSL_CERT_FILE; in Python: ca_file=..."
        )
    if isinstance(error, httpx2.ConnectError):
        return ServerError(f"{address.url} cannot be reached: {error}. Is clipsearch serve running there?")
    return ServerError(f"The connection to {address.url} broke: {error or type(error).__name__}. Try again.")


def overdue(address: Address, seconds: float) -> ServerBusyError:
    """Return the error of an answer that takes too long."""
    return ServerBusyError(
        f"{address.url} did not answer within {seconds:g} seconds. Ask for less, or allow more; in Python: timeout=..."
    )
