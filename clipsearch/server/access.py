"""Who may ask for what: names, origins, the token, and what bodies may be."""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipsearch.access import LOCAL
from clipsearch.server.bodies import MAX_VALUES, MAX_VALUES_OF_VECTORS, SMALL, Body, Budget
from clipsearch.server.credentials import Credentials
from clipsearch.server.problems import of_bug, of_http
from clipsearch.server.service import Service, get_service
from clipsearch.server.settings import ServerSettings

_log = logging.getLogger(__name__)

OPEN = frozenset({"/v1/health", "/v1/ready", "/v1/session"})
"""What needs no token, and says nothing of the library; so do the files of the page."""

UPLOADS = frozenset({"/v1/match", "/v1/search/image", "/v1/records", "/v1/records/image", "/v1/embeddings"})
"""What may bring pictures, and so more bytes."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of each response that has no other value for them."""


async def require_write(service: Annotated[Service, Depends(get_service)]) -> None:
    """Let a request through only where the server may change the library."""
    if not service.settings.allow_write:
        raise HTTPException(
            403, "This server only reads. To let it write: clipsearch serve --allow-write, with a token."
        )


class Guard:
    """The outermost part of the application: refuses requests, and bounds what the rest reads."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, credentials: Credentials) -> None:
        self._app = app
        self._settings = settings
        self._credentials = credentials
        self._budget = Budget(max(settings.max_in_flight, settings.max_upload, settings.max_body))
        named = settings.is_local or bool(settings.allowed_hosts)
        names = {*LOCAL, settings.name, *settings.allowed_hosts} if named else set()
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with bounds."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        is_head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET"} if is_head else scope
        sender = _Sender(send, scope, inner, is_head=is_head)
        headers = Headers(scope=scope)
        most, seconds = self._most(scope), self._settings.body_seconds
        body = Body(receive, most, seconds, self._budget, values=_most_values(scope, headers))
        try:
            self._check(scope, headers)
            body.expect(headers.get("content-length", ""))
        except HTTPException as refused:
            response: Response = of_http(refused)
            return await response(scope, receive, sender)
        try:
            await self._app(inner, body, sender)
        except Exception:
            _log.exception("A request failed: %s %s", scope["method"], scope["path"])
            if sender.has_started:
                raise
            response = of_bug()
            await response(scope, receive, sender)
        finally:
            body.release()

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise HTTPException for a request that is refused."""
        host = headers.get("host", "").lower()
        if self._names and _without_port(host) not in self._names:
            # A page of a stranger may give this machine a name of its own (DNS rebinding).
            raise HTTPException(
                403, "The server is not known by this name. To allow one: clipsearch serve --allow-host NAME"
            )
        path = _path(scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        is_foreign = site not in ("none", "same-origin") and not (is_page(path) and _is_navigation(scope, headers))
        if is_foreign or (origin is not None and _host_of(origin) != host):
            raise HTTPException(403, "Pages of other sites may not ask this server.")
        if path not in OPEN and not is_page(path):
            self._credentials.check(HTTPConnection(scope))

    def _most(self, scope: Scope) -> int:
        path = _path(scope)
        if path in OPEN or is_page(path):
            return SMALL
        return self._settings.max_upload if path in UPLOADS else self._settings.max_body


class _Sender:
    """Adds the headers of each response; of one to HEAD, which is made as that to GET, it sends no more than these."""

    def __init__(self, send: Send, scope: Scope, inner: Scope, *, is_head: bool) -> None:
        self._send = send
        self._scope = scope
        self._inner = inner
        self._is_head = is_head
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            self.has_started = True
            self._scope["route"] = self._inner.get("route")  # which is counted
            await self._send({**message, "headers": headers.raw})
            if self._is_head:
                await self._send({"type": "http.response.body", "body": b""})
        elif not self._is_head:
            await self._send(message)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def is_page(path: str) -> bool:
    """Tell whether a path is one of the page: its files are the same for everybody."""
    return path == "/" or path.startswith("/page/")


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Tell whether a browser goes to a page, as by a link, rather than that a page loads something into itself."""
    kind = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return scope["method"] == "GET" and kind == ("navigate", "document")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _most_values(scope: Scope, headers: Headers) -> int | None:
    """Return how many values a body may have; only records may have many, of their vectors."""
    if headers.get("content-type", "").lower().startswith("multipart/"):
        return None
    return MAX_VALUES_OF_VECTORS if _path(scope) == "/v1/records" else MAX_VALUES
