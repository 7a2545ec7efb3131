"""Who may ask for what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.exceptions import HTTPException

from clipsearch.server.service import Service, get_service


def require_write(service: Annotated[Service, Depends(get_service)]) -> None:
    """Let a request through only where the server may change the library."""
    if not service.settings.allow_write:
        raise HTTPException(403, "This server only reads. Start it with --allow-write, and with a token.")
