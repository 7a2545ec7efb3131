"""The route of exports: items with their vectors and all that is known of them, as a stream."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from clipsearch.server import forms
from clipsearch.server.downloads import Downloads
from clipsearch.server.examples import EXPORT
from clipsearch.server.exports import send_export
from clipsearch.server.problems import REASONS
from clipsearch.server.service import TheService

router = APIRouter(tags=["items"])

_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Lines of JSON: the `header`, an `item` for each item, a `vector` for each vector, whose `data` "
        "is base64 of float32 numbers, the least significant byte first, and the `end`. A `problem` may be the last "
        "line instead. Without its end, an export is not whole.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}, "example": EXPORT}},
    },
    409: {"description": REASONS[409]},
}


@router.post("/export", response_class=Response, responses=_LINES)
async def export(request: Request, service: TheService, asked: forms.ItemsToExport) -> Response:
    """Take out the items that filters allow, with their vectors and all that is known of them, of one state."""
    filters = None if asked.filters is None else asked.filters.build()
    downloads: Downloads = request.app.state.downloads
    sent = await downloads.start(send_export(service, filters))
    return StreamingResponse(sent, headers={"X-Accel-Buffering": "no"}, media_type="application/x-ndjson")
