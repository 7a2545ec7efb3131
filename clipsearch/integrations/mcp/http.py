"""The MCP server over streamable HTTP: one port, requests of a bounded size, and who may ask."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from typing import Any

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clipsearch import InvalidInputError

PATH = "/mcp"

MAX_REQUEST, MAX_WRITE_REQUEST = 1 << 20, 32 << 20
"""Bytes of a request, and of one that may bring a picture."""

MAX_SESSIONS = 100

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MIN_TOKEN = 16


def check_access(host: str, token: str | None, *, allow_write: bool) -> None:
    """Raise InvalidInputError unless who can reach the server may do what it offers.

    On this machine, others can reach it as well: they may look, but not write, without a token. A page in a browser can
    reach it by a name of its own for this machine (DNS rebinding), and is refused by its Host and Origin.
    """
    if token is not None and len(token) < _MIN_TOKEN:
        raise InvalidInputError(
            f"The token has {len(token)} characters, but needs at least {_MIN_TOKEN}. Make one: openssl rand -hex 16"
        )
    if token is None and not is_loopback(host):
        raise InvalidInputError(f"Others can reach {host}. Give a token that they need: --token")
    if token is None and allow_write:
        raise InvalidInputError("--allow-write over HTTP needs a token: --token")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build_app(server: MCPServer[Any], *, host: str, token: str | None = None, allow_write: bool = False) -> ASGIApp:
    """Return the server as an ASGI application.

    host: where it listens. token: what a request must bring, as `Authorization: Bearer TOKEN`; None for nothing.
    """
    local = is_loopback(host)
    shown = f"[{host}]" if ":" in host else host
    names = [f"{name}:*" for name in dict.fromkeys([*_LOCAL, shown])]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=local,  # elsewhere a page lacks the token, and the names are the user's own
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MAX_WRITE_REQUEST if allow_write else MAX_REQUEST,
        max_sessions=MAX_SESSIONS,
        transport_security=security,
        host=host,
    )
    return app if token is None else _Bearer(app, token)


class _Bearer:
    """Lets requests through that bring the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self._wanted):
                refused = Response("A token is needed.", 401, {"WWW-Authenticate": "Bearer"})
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """Open a port; 0 for any that is free. Raises InvalidInputError where that cannot be done."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"The server cannot listen at {host}, port {port}: {reason}. Name another.") from error


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until the process is interrupted."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, ws="none")
    await uvicorn.Server(config).serve(sockets=[listener])
