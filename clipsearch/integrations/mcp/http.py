"""The MCP server over streamable HTTP: one port, requests of a bounded size, and who may ask."""

from __future__ import annotations

import functools
import hmac
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Access:
    """Who can reach a server, and what they may do.

    host, port: where it listens; port 0 for any that is free. token: what a request must bring, as `Authorization:
    Bearer TOKEN`; None for nothing. allow_write: whether the server has tools that change the library.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    allow_write: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def name(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def check(self) -> None:
        """Raise InvalidInputError where somebody else could write, or reach it at all, without a token.

        On this machine, other users and programs can reach it as well: they may look, but not write.
        """
        if self.token is not None and len(self.token) < _MIN_TOKEN:
            raise InvalidInputError(
                f"The token has {len(self.token)} characters, but needs at least {_MIN_TOKEN}. Make one: "
                "openssl rand -hex 16"
            )
        if self.token is None and not self.is_local:
            raise InvalidInputError(f"Others can reach {self.host}. Give a token that they need: --token")
        if self.token is None and self.allow_write:
            raise InvalidInputError("--allow-write over HTTP needs a token: --token")


def build_app(server: MCPServer[Any], access: Access) -> ASGIApp:
    """Return a server as an ASGI application.

    A page in a browser may reach this machine by a name of its own (DNS rebinding): its Host or Origin is refused.
    """
    names = [f"{name}:*" for name in dict.fromkeys([*_LOCAL, access.name])]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=access.is_local,  # elsewhere names are the user's own; a page lacks the token
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MAX_WRITE_REQUEST if access.allow_write else MAX_REQUEST,
        max_sessions=MAX_SESSIONS,
        transport_security=security,
        host=access.host,
    )
    return app if access.token is None else _Bearer(app, access.token)


def serve(server: MCPServer[Any], access: Access, ready: Callable[[str], None]) -> None:
    """Serve until the process is interrupted. ready: is called with the address.

    Raises InvalidInputError where the server cannot listen.
    """
    import anyio
    import uvicorn

    app = build_app(server, access)
    with _listen(access) as listener:
        ready(f"http://{access.name}:{listener.getsockname()[1]}{PATH}")
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, ws="none")
        anyio.run(functools.partial(uvicorn.Server(config).serve, sockets=[listener]))


def _listen(access: Access) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        return socket.create_server((access.host, access.port), family=family)
    except (OSError, OverflowError) as error:
        where, reason = f"{access.host}, port {access.port}", getattr(error, "strerror", None) or error
        raise InvalidInputError(f"The server cannot listen at {where}: {reason}. Name another.") from error


class _Bearer:
    """Lets requests through that bring the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            given = Headers(scope=scope).get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._wanted):
                refused = Response("A token is needed.", 401, {"WWW-Authenticate": "Bearer"})
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)
