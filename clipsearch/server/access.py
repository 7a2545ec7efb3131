"""Who may ask for what: names, origins, the token, and how much of a request is read, and for how long."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipsearch.access import LOCAL
from clipsearch.server.attempts import FailedTokens
from clipsearch.server.problems import of_bug, of_http
from clipsearch.server.service import Service, get_service
from clipsearch.server.settings import ServerSettings

_log = logging.getLogger(__name__)

OPEN = frozenset({"/v1/health", "/v1/ready"})
"""What needs no token, and says nothing of the library."""

UPLOADS = frozenset({"/v1/search/image", "/v1/records", "/v1/records/image", "/v1/embeddings"})
"""What may bring pictures, and so more bytes."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of each response that has no other value for them."""

_DIGITS = 18
"""Of a length at most: Python reads no number of thousands of them."""

MIN_RATE = 8192
"""Bytes a second that a request must bring on average."""


async def require_write(service: Annotated[Service, Depends(get_service)]) -> None:
    """Let a request through only where the server may change the library."""
    if not service.settings.allow_write:
        raise HTTPException(
            403, "This server only reads. To let it write: clipsearch serve --allow-write, with a token."
        )


class Guard:
    """The outermost part of the application: refuses requests, and bounds what the rest reads."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._failed = FailedTokens()
        named = settings.is_local or bool(settings.allowed_hosts)
        names = {*LOCAL, settings.name, *settings.allowed_hosts} if named else set()
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with bounds."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        sender = _Sender(send)
        body = _Body(receive, self._most(scope), self._settings.body_seconds)
        try:
            self._check(scope, Headers(scope=scope))
        except HTTPException as refused:
            response: Response = of_http(refused)
            return await response(scope, receive, sender)
        try:
            await self._app(scope, body, sender)
        except Exception:
            _log.exception("A request failed: %s %s", scope["method"], scope["path"])
            if sender.has_started:
                raise
            response = of_bug()
            await response(scope, receive, sender)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise HTTPException for a request that is refused."""
        host = headers.get("host", "").lower()
        if self._names and _without_port(host) not in self._names:
            # A page of a stranger may give this machine a name of its own (DNS rebinding).
            raise HTTPException(
                403, "The server is not known by this name. To allow one: clipsearch serve --allow-host NAME"
            )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if (origin is not None and _host_of(origin) != host) or site not in ("none", "same-origin"):
            raise HTTPException(403, "Pages of other sites may not ask this server.")
        if _path(scope) not in OPEN:
            self._check_token(scope, headers)
        length, most = headers.get("content-length", ""), self._most(scope)
        if length.isdecimal() and (len(length) > _DIGITS or int(length) > most):
            raise _too_large(most)

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        if self._settings.token is None:
            return
        address = str((scope.get("client") or ("unknown",))[0])
        if seconds := self._failed.wait(address):
            detail = f"This address brought too many wrong tokens. Wait {seconds} seconds."
            raise HTTPException(429, detail, {"Retry-After": str(seconds)})
        given = headers.get("authorization")
        if self._settings.admits(given):
            return
        if given is not None:
            self._failed.record(address)
        raise HTTPException(401, "Send `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"})

    def _most(self, scope: Scope) -> int:
        return self._settings.max_upload if _path(scope) in UPLOADS else self._settings.max_body


class _Body:
    """What a request brings: at most so many bytes, and at a rate that is no attack."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._end: float | None = None
        self._size = 0
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._seconds
        try:
            async with asyncio.timeout_at(min(self._end + self._size / MIN_RATE, now + self._seconds)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The request came too slowly.", {"Connection": "close"}) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._most:
                raise _too_large(self._most)
            self._is_complete = not message.get("more_body", False)
        return message


class _Sender:
    """Adds the headers of each response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            message = {**message, "headers": headers.raw}
            self.has_started = True
        await self._send(message)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"The request has more than {most:,} bytes. Send less.", {"Connection": "close"})
