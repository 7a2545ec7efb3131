"""The page: its files, at `/` and `/page/NAME`. They need no token, and say nothing of the library."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.exceptions import HTTPException

from clipsearch.server.page_files import INDEX, PageFile

router = APIRouter(include_in_schema=False)
"""Stands at the root, beside the routes of the API."""

Value = Annotated[str, Header()]


@router.api_route("/", methods=["GET", "HEAD"])
async def show_page(request: Request, accept_encoding: Value = "", if_none_match: Value = "") -> Response:
    """Return the page."""
    return _respond(request, INDEX, accept_encoding, if_none_match)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def show_file(request: Request, name: str, accept_encoding: Value = "", if_none_match: Value = "") -> Response:
    """Return a file of the page."""
    return _respond(request, name, accept_encoding, if_none_match)


def _respond(request: Request, name: str, accepted: str, known: str) -> Response:
    held: dict[str, PageFile] = request.app.state.page_files
    if (found := held.get(name)) is None:
        raise HTTPException(404, "The page has no such file.")
    status, body, headers = found.respond(accepted, known)
    response = Response(body, status, headers)
    if request.method == "HEAD":
        response.body = b""  # its length stays in the headers
    return response
