"""Items by id, their pictures, and items by filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from clipsearch.errors import MediaError
from clipsearch.query.embeds import MAX_SIDE, MIN_SIDE
from clipsearch.server import forms, payloads, pictures
from clipsearch.server.service import Service, get_service
from clipsearch.types import Item

router = APIRouter(tags=["items"])
Shared = Annotated[Service, Depends(get_service)]
ItemId = Annotated[int, Path(ge=1, le=forms.MAX_ID, description="The id of an item.")]
Known = Annotated[str | None, Header(alias="If-None-Match", description="What the client has; 304 if that is right.")]
Version = Annotated[str | None, Query(max_length=64, description="Of the content; a right one is kept for a year.")]

_CHUNK = 1 << 16
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The client has it."},
    404: {"description": "There is no such item, or it has no picture."},
}


class ItemsQuery(forms.QueryFilters):
    """Which items are wanted, in a query string."""

    limit: forms.Count = 100
    cursor: Annotated[str | None, Query(max_length=64, description="What the page before gave.")] = None


@router.get("/items", response_model=forms.Page)
async def list_items(service: Shared, asked: Annotated[ItemsQuery, Query()]) -> Response:
    """List items in order of their ids, page by page."""
    found = await service.run(service.engine.page, asked.build(), cursor=asked.cursor, limit=asked.limit)
    return payloads.json_response(payloads.page(found))


@router.post("/find", response_model=forms.Listing)
async def find(service: Shared, asked: forms.Find) -> Response:
    """List the items that filters allow, newest first, and how many there are."""
    filters = None if asked.filters is None else asked.filters.build()
    found = await service.run(service.engine.find, filters, limit=asked.limit, offset=asked.offset)
    return payloads.json_response(payloads.listing(found, asked.limit, asked.offset, whole=asked.whole))


@router.get("/items/{item_id}", response_model=forms.Item, responses={404: {"description": "There is no such item."}})
async def get_item(service: Shared, item_id: ItemId) -> Response:
    """Return all that is known of an item."""
    return payloads.json_response(payloads.item(await _find(service, item_id), whole=True))


@router.get("/items/{item_id}/image", response_class=Response, responses=_PICTURE)
async def get_image(service: Shared, item_id: ItemId, known: Known = None, v: Version = None) -> Response:
    """Return the picture of an item, as its file is."""
    item = await _find(service, item_id)
    headers = _caching(item, "image", v)
    if _is_known(headers["ETag"], known):
        return Response(status_code=304, headers=headers)
    try:
        data, media_type = await service.run(pictures.read_file, service.engine, item_id)
    except MediaError as error:
        raise HTTPException(404, f"There is no picture of item {item_id}: {error}.") from error
    size = {"Content-Length": str(len(data))}
    return StreamingResponse(_pieces(data), headers={**headers, **size}, media_type=media_type)


@router.get("/items/{item_id}/thumbnail", response_class=Response, responses=_PICTURE)
async def get_thumbnail(
    service: Shared,
    item_id: ItemId,
    size: Annotated[int, Query(ge=MIN_SIDE, le=MAX_SIDE, description="Pixels of the longer side at most.")] = 256,
    known: Known = None,
    v: Version = None,
) -> Response:
    """Return the picture of an item as a JPEG, reduced, upright, and without metadata."""
    item = await _find(service, item_id)
    headers = _caching(item, str(size), v)
    if _is_known(headers["ETag"], known):
        return Response(status_code=304, headers=headers)
    try:
        data = await service.run(pictures.make_thumbnail, service.engine, item_id, size)
    except MediaError as error:
        raise HTTPException(404, f"There is no thumbnail of item {item_id}: {error}.") from error
    return Response(data, headers=headers, media_type="image/jpeg")


async def _find(service: Service, item_id: int) -> Item:
    found = await service.run(pictures.find_item, service.engine, item_id)
    if found is None:
        raise HTTPException(404, f"No item has the id {item_id}.")
    return found


def _caching(item: Item, what: str, version: str | None) -> dict[str, str]:
    """Return the headers by which a client keeps a picture: for good where its URL names the content."""
    is_fixed = version == payloads.version(item)
    lasting = "private, max-age=31536000, immutable" if is_fixed else "private, no-cache"
    return {"ETag": f'"{item.content_hash}-{what}"', "Cache-Control": lasting}


def _is_known(tag: str, known: str | None) -> bool:
    given = [each.strip().removeprefix("W/") for each in (known or "").split(",")]
    return tag in given or "*" in given


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut a file up, so that a client that stops reading is noticed."""
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]
