"""The MCP server over streamable HTTP: one port, requests of a bounded size, and who may ask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clipsearch.access import LOCAL, Access, listen

PATH = "/mcp"

MAX_REQUEST, MAX_WRITE_REQUEST = 1 << 20, 32 << 20
"""Bytes of a request, and of one that may bring a picture."""

MAX_SESSIONS = 100


def build_app(server: MCPServer[Any], access: Access) -> ASGIApp:
    """Return a server as an ASGI application.

    A page in a browser may reach this machine by a name of its own (DNS rebinding): its Host or Origin is refused.
    """
    names = [f"{name}:*" for name in dict.fromkeys([*LOCAL, access.name])]
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
    return app if access.token is None else _Bearer(app, access)


def serve(server: MCPServer[Any], access: Access, ready: Callable[[str], None]) -> None:
    """Serve until the process is interrupted. ready: is called with the address.

    Raises InvalidInputError where the server cannot listen.
    """
    import anyio
    import uvicorn

    app = build_app(server, access)
    with listen(access) as listener:
        ready(f"http://{access.name}:{listener.getsockname()[1]}{PATH}")
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, ws="none")
        anyio.run(functools.partial(uvicorn.Server(config).serve, sockets=[listener]))


class _Bearer:
    """Lets requests through that bring the token."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            if not self._access.admits(Headers(scope=scope).get("authorization")):
                refused = Response("A token is needed.", 401, {"WWW-Authenticate": "Bearer"})
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)
