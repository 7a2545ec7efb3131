"""The route of downloads: files of many items at once."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from clipsearch.errors import InvalidInputError
from clipsearch.server.archives import zip_items
from clipsearch.server.downloads import Downloads
from clipsearch.server.forms_selections import MAX_FILES, DownloadRequest
from clipsearch.server.service import TheService

router = APIRouter(tags=["items"])

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_SCHEMA = DownloadRequest.model_json_schema()
_BODY = {"required": True, "content": {kind: {"schema": _SCHEMA} for kind in ("application/json", *_FORMS)}}
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The archive; `missing.txt` in it lists what could not be given out.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/download", response_class=Response, responses=_ZIP, openapi_extra={"requestBody": _BODY})
async def download(request: Request, service: TheService) -> Response:
    """Download the files of items as one zip archive, stored and not compressed. JSON, or a form with `ids`."""
    asked = await _read(request)
    downloads: Downloads = request.app.state.downloads
    pieces = zip_items(service.engine, asked.ids)
    headers = {"Content-Disposition": 'attachment; filename="pictures.zip"', "X-Accel-Buffering": "no"}
    return StreamingResponse(await downloads.start(pieces), headers=headers, media_type="application/zip")


async def _read(request: Request) -> DownloadRequest:
    """Read what is asked for. Raises RequestValidationError or InvalidInputError for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORMS:
        async with request.form(max_files=0, max_fields=MAX_FILES) as form:
            given: object = {name: form.getlist(name) for name in form}
    elif kind == "application/json":
        try:
            given = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"The request is not JSON: {error}.") from error
    else:
        raise InvalidInputError("Send JSON (application/json) or a form, with ids.")
    try:
        return DownloadRequest.model_validate(given)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_context=False)]
        raise RequestValidationError(found) from error
