"""Requests as values: what is sent, and how the answer is read. Nothing here sends anything.

A method of a client is a generator of calls (`Steps`), which gets the answer of each and returns its own result. So it
is written once, for a client that waits and for one that awaits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from clipsearch.errors import ClipSearchError, InvalidInputError, ServerError

T = TypeVar("T")

MAX_ANSWER = 256 << 20
"""Bytes of an answer that are read."""

MAX_COUNT, MAX_KEYS = 1000, 100
"""Hits or items, and keys, that the server takes in one request."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        method: Of HTTP.
        path: Such as `/v1/search`.
        read: Makes the result of the JSON value of the answer, or of its bytes. Raises ValueError for what is not as
            it must be.
        json: A value to send.
        params: The query string.
        picture: The file of a picture to send as a form, with `form`.
        form: Further fields of that form.
        is_json: Whether the answer is JSON; else `read` gets the bytes.
        into: Takes a successful answer as it comes, of any size and for as long as it goes on; `read` gets b"".
        is_repeatable: Whether it can be sent twice where the server may have begun with it.
        missing: What is raised where the server answers 404.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    json: object = None
    params: tuple[tuple[str, str], ...] = ()
    picture: bytes | None = field(default=None, repr=False)
    form: Mapping[str, str] = field(default_factory=dict)
    is_json: bool = True
    into: Callable[[bytes], None] | None = None
    is_repeatable: bool = True
    missing: type[ClipSearchError] = ServerError


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


Step = Call[Any] | list[Call[Any]] | Pause
"""A list of calls may be sent at the same time; their results come in its order."""

Steps = Generator[Step, Any, T]


def content_of(call: Call[Any]) -> dict[str, Any]:
    """Return the body of a request as arguments of httpx2. Raises InvalidInputError for what JSON does not have."""
    if call.picture is not None:
        files = {"image": ("picture", call.picture, "application/octet-stream")}
        return {"files": files, "data": dict(call.form)}
    if call.json is None:
        return {}
    return {"content": encode(call.json), "headers": {"Content-Type": "application/json"}}


def encode(value: object) -> bytes:
    """Encode as JSON, in ASCII. Raises InvalidInputError for what JSON does not have."""
    try:
        return json.dumps(value, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"This cannot be sent to a server: {error}.") from error
