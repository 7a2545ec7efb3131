"""A library over HTTP: an ASGI application and what serves it. It needs `pip install 'clipsearch[server]'`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.server.app import create_app
    from clipsearch.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]

_HOMES = {"create_app": "clipsearch.server.app", "ServerSettings": "clipsearch.server.settings"}


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'clipsearch.server' has no attribute {name!r}")
