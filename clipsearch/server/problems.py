"""Errors as RFC 9457 problem details: `application/problem+json`, with the status, the kind and the message."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from clipsearch import errors, present
from clipsearch.query.parser import QuerySyntaxError
from clipsearch.server.sending import BusyError
from clipsearch.server.service import OverdueError, ReplacedError

MEDIA_TYPE = "application/problem+json"

_KINDS: tuple[tuple[type[errors.ClipSearchError], int, str, str], ...] = (
    (BusyError, 429, "busy", "The server is busy"),
    (ReplacedError, 503, "library-replaced", "The library was replaced"),
    (OverdueError, 503, "overdue", "The work took too long"),
    (QuerySyntaxError, 422, "query-syntax", "The query cannot be read"),
    (errors.InvalidInputError, 422, "invalid-input", "The request cannot be used"),
    (errors.MediaError, 422, "unreadable-media", "The picture or text cannot be read"),
    (errors.LibraryNotFoundError, 409, "empty-library", "The library is empty"),
    (errors.LibraryLockedError, 423, "library-locked", "The library is being written to"),
    (errors.EncoderMismatchError, 409, "encoder-mismatch", "The library has another encoder"),
    (errors.StoreCorruptError, 500, "store-corrupt", "The library is damaged"),
    (errors.EncoderError, 503, "encoder-unavailable", "The encoder is unavailable"),
    (errors.ClipSearchError, 500, "library", "The library cannot do it"),
)
"""Class, status, name and title, the most special first."""


REASONS = {
    400: "The request cannot be read.",
    401: "A token is needed.",
    403: "The request is not allowed: by its host, its origin, or because the server only reads.",
    408: "The request came too slowly.",
    409: "The library is empty, or has another encoder.",
    413: "The request is too large.",
    422: "The request cannot be used.",
    423: "A job, or another process, is writing to the library.",
    429: "The server is busy, or the address brought too many wrong tokens.",
    500: "An internal error.",
    503: "The encoder is unavailable, the library was replaced, or the work took too long.",
}
"""Why a route answers with a status."""


class Invalid(BaseModel):
    """One part of a request that cannot be used."""

    location: str = Field(description="Where it is: `body.k`, `query.limit`.")
    detail: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """What went wrong: RFC 9457 problem details."""

    type: str = Field(examples=["urn:clipsearch:problem:invalid-input"], description="Which kind of problem it is.")
    title: str = Field(examples=["The request cannot be used"])
    status: int = Field(examples=[422])
    detail: str | None = Field(None, description="What is wrong, and what to do about it.")
    position: int | None = Field(None, description="The column in the query, counted from 1, where it cannot be read.")
    errors: list[Invalid] | None = Field(None, description="Each part of the request that cannot be used.")


def problem(status: int, kind: str, title: str, detail: str | None = None, **more: Any) -> JSONResponse:  # noqa: ANN401
    """Make a response of a problem. more: further members; `headers` for those of the response."""
    headers = more.pop("headers", None)
    body = {"type": f"urn:clipsearch:problem:{kind}", "title": title, "status": status, "detail": detail, **more}
    clean = {name: present.encodable(value) for name, value in body.items() if value is not None}
    return JSONResponse(clean, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let an application answer every error with a problem, but for bugs, which are the guard's."""
    app.add_exception_handler(errors.ClipSearchError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def of_error(error: errors.ClipSearchError) -> JSONResponse:
    """Make a response of an error of ours."""
    status, kind, title = next(row[1:] for row in _KINDS if isinstance(error, row[0]))
    seconds = getattr(error, "retry_after", 5 if status in (423, 503) else None)
    headers = None if seconds is None else {"Retry-After": str(seconds)}
    detail = for_clients(str(error))
    return problem(status, kind, title, detail, position=getattr(error, "position", None), headers=headers)


def for_clients(message: str) -> str:
    """Return a message of the engine with remedies for who asks over HTTP, instead of commands and Python."""
    for remedy, instead in _REMEDIES.items():
        message = message.replace(remedy, instead)
    return message.strip()


async def _of_ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.ClipSearchError)
    return of_error(error)


async def _of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    for each in error.errors():
        if each["type"] == "json_invalid" and isinstance(
            each["loc"][-1], int
        ):  # the body itself, not a field of a form
            detail = f"The body is not JSON: {each['ctx']['error']}, at character {each['loc'][-1] + 1}."
            return of_http(HTTPException(400, detail))
    # What was given stays out: it may be long, or secret.
    found = [
        {"location": ".".join(map(str, each["loc"])), "detail": _plain(each["msg"])} for each in error.errors()[:20]
    ]
    detail = "; ".join(f"{each['location']}: {each['detail']}" for each in found)
    return problem(422, "invalid-input", "The request cannot be used", detail, errors=found)


def _plain(message: str) -> str:
    """Return a message of pydantic without its name of our own checks."""
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return of_http(error)


def of_http(error: HTTPException) -> JSONResponse:
    """Make a response of an error of the protocol."""
    kind, title = _HTTP.get(error.status_code, ("http", "The request cannot be answered"))
    detail = _DETAILS.get(str(error.detail), str(error.detail))
    return problem(error.status_code, kind, title, detail, headers=error.headers)


def of_bug() -> JSONResponse:
    """Make a response of an error that is a bug of ours; what it says stays in the log."""
    return problem(500, "internal", "An internal error", "This is a bug of the server; its log has the details.")


_DETAILS = {
    "Not Found": "The server has no such route. /v1/openapi.json describes its routes.",
    "Method Not Allowed": "The route has no such method. /v1/openapi.json describes its routes.",
}
"""What Starlette says of requests that it routes nowhere, with the remedy."""

_HTTP = {
    400: ("bad-request", "The request cannot be read"),
    401: ("token-needed", "A token is needed"),
    403: ("forbidden", "The request is not allowed"),
    404: ("not-found", "There is nothing there"),
    405: ("method", "This cannot be done there"),
    408: ("slow", "The request came too slowly"),
    409: ("conflict", "It cannot be done now"),
    413: ("too-large", "The request is too large"),
    429: ("busy", "Too many requests"),
}

_REMEDIES = {
    "To see keys: clipsearch find --json": "GET /v1/items lists items with their keys.",
    "To see ids: clipsearch query --json": "GET /v1/items lists items with their ids.",
    'Say what to look for: clipsearch query "a cat on a sofa"': "Say what to look for, such as: a cat on a sofa",
    "List these: clipsearch status": "GET /v1/facets lists those with items.",
    "Fill it: clipsearch index FOLDER": "Index folders with POST /v1/jobs, or add records with POST /v1/records.",
    " In Python, clipsearch.open(..., timeout=SECONDS) waits that long.": "",
    "Wait for it to end, or give clipsearch.open a longer timeout.": "Try again later.",
}
"""Ends of messages of the engine, each with what to say of it over HTTP."""
