"""Sessions of browsers: a cookie instead of the token, so that no script has to keep that."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from clipsearch.server.credentials import SESSION_SECONDS, Credentials, cookie_name
from clipsearch.server.service import TheService

PATH = "/v1"

_BEGUN: dict[int | str, dict[str, Any]] = {
    204: {"description": "The answer sets the cookie, where a token is needed."},
    401: {"description": "This is not the token."},
    429: {"description": "The address brought too many wrong tokens."},
}

router = APIRouter(tags=["session"])


class TokenForm(BaseModel):
    """What a session begins with."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"token": "the token of the server"}]})

    token: Annotated[str, Field(min_length=1, max_length=4096, description="The token of the server.")]


class SessionView(BaseModel):
    """What a page has to know before it has the token."""

    needs_token: bool = Field(description="Whether requests must bring a token, or the cookie of a session.")
    writable: bool = Field(description="Whether requests may change the library.")


@router.get("/session")
async def show_session(service: TheService) -> SessionView:
    """Say whether a token is needed. It needs none itself."""
    settings = service.settings
    return SessionView(needs_token=settings.token is not None, writable=settings.allow_write)


@router.post("/session", status_code=204, responses=_BEGUN)
async def begin_session(asked: TokenForm, request: Request) -> Response:
    """Begin a session: for 30 days, requests of this browser need no token."""
    credentials: Credentials = request.app.state.credentials
    cookie = credentials.begin_session(request, asked.token)
    response = Response(status_code=204)
    if cookie is not None:
        _set_cookie(response, request, cookie, SESSION_SECONDS)
    return response


@router.delete("/session", status_code=204, responses={204: {"description": "The answer removes the cookie."}})
async def end_session(request: Request) -> Response:
    """End the session of this browser."""
    response = Response(status_code=204)
    _set_cookie(response, request, "", 0)
    return response


def _set_cookie(response: Response, request: Request, value: str, seconds: int) -> None:
    """Set the cookie: for no script, for no other site, and over TLS only where it came so."""
    secure = request.url.scheme == "https"
    response.set_cookie(
        cookie_name(request), value, seconds, path=PATH, httponly=True, samesite="strict", secure=secure
    )
