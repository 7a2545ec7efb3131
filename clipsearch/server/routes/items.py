"""Items by id, their pictures, and items by filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException

from clipsearch.errors import MediaError
from clipsearch.media.text import decode_text
from clipsearch.query.embeds import MAX_SIDE, MIN_SIDE
from clipsearch.server import answers, forms, payloads, pictures
from clipsearch.server.sending import Sending
from clipsearch.server.service import Service, TheService
from clipsearch.store.item_files import open_item
from clipsearch.store.picture_files import OpenPicture
from clipsearch.types import Item, Modality

router = APIRouter(tags=["items"])
ItemId = Annotated[int, Path(ge=1, le=forms.MAX_ID, description="The id of an item.")]
Known = Annotated[str | None, Header(alias="If-None-Match", description="What the client has; 304 if that is right.")]
Part = Annotated[int, Query(ge=0, le=forms.MAX_ID, description="Of a film or a document: its frame or page, from 0.")]
Version = Annotated[str | None, Query(max_length=64, description="Of the content; a right one is kept for a year.")]

_CHUNK = 1 << 16
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The client has it."},
    404: {"description": "There is no such item, or it has no picture."},
}
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    404: {"description": "There is no such item, it is not a text, or its file has changed since it was indexed."},
}
_MAX_CHARACTERS = 1_000_000
_FOR_GOOD, _ASK_AGAIN = "private, max-age=31536000, immutable", "private, no-cache"


class ItemsQuery(forms.QueryFilters):
    """Which items are wanted, in a query string."""

    limit: forms.Count = 100
    cursor: Annotated[str | None, Query(max_length=64, description="What the page before gave.")] = None


@router.get("/items", response_model=answers.Page)
async def list_items(service: TheService, asked: Annotated[ItemsQuery, Query()]) -> Response:
    """List items in order of their ids, page by page."""
    found = await service.run(service.engine.page, asked.build(), cursor=asked.cursor, limit=asked.limit)
    return payloads.json_response(payloads.page(found))


@router.post("/find", response_model=answers.Listing)
async def find(service: TheService, asked: forms.Find) -> Response:
    """List the items that filters allow, newest first, and how many there are."""
    filters = None if asked.filters is None else asked.filters.build()
    found = await service.run(service.engine.find, filters, limit=asked.limit, offset=asked.offset, sort=asked.sort)
    return payloads.json_response(
        payloads.listing(found, asked.limit, asked.offset, whole=asked.whole, group=asked.group)
    )


@router.get("/items/{item_id}", response_model=answers.Item, responses={404: {"description": "There is no such item."}})
async def get_item(service: TheService, item_id: ItemId) -> Response:
    """Return all that is known of an item."""
    found = await _find(service, item_id)
    parts = await service.run(pictures.parts_of, service.engine, found)
    return payloads.json_response({**payloads.item(found, whole=True), "parts": parts})


@router.get("/items/{item_id}/image", response_class=Response, responses=_PICTURE)
async def get_image(
    service: TheService, item_id: ItemId, part: Part = 0, known: Known = None, v: Version = None
) -> Response:
    """Return the picture of an item, as its file is; of a film or a document a part, as a JPEG."""
    return await service.run(_send, service, PictureRequest(item_id, None, part), known, v)


@router.get("/items/{item_id}/thumbnail", response_class=Response, responses=_PICTURE)
async def get_thumbnail(
    service: TheService,
    item_id: ItemId,
    size: Annotated[int, Query(ge=MIN_SIDE, le=MAX_SIDE, description="Pixels of the longer side at most.")] = 256,
    part: Part = 0,
    known: Known = None,
    v: Version = None,
) -> Response:
    """Return the picture of an item as a JPEG, reduced, upright, and without metadata."""
    return await service.run(_send, service, PictureRequest(item_id, size, part), known, v)


@router.get("/items/{item_id}/text", response_class=Response, responses=_TEXT)
async def get_text(
    service: TheService,
    item_id: ItemId,
    length: Annotated[int, Query(ge=1, le=_MAX_CHARACTERS, description="Characters at most.")] = 100_000,
    v: Version = None,
) -> Response:
    """Return the beginning of the text of an item, as it was indexed."""
    found = await _find(service, item_id)
    text = await service.run(_read_text, service, found)
    caching = _FOR_GOOD if v == payloads.version(found.content_hash) else _ASK_AGAIN
    return PlainTextResponse(text[:length], headers={"Cache-Control": caching})


async def _find(service: Service, item_id: int) -> Item:
    found = await service.run(pictures.find_item, service.engine, item_id)
    if found is None:
        raise HTTPException(404, f"No item has the id {item_id}.")
    return found


def _read_text(service: Service, found: Item) -> str:
    """Return the text of an item. Raises HTTPException for one without."""
    if found.modality is not Modality.TEXT:
        raise HTTPException(404, f"Item {found.id} is not a text.")
    if found.text is not None:
        return found.text
    try:
        with open_item(service.engine.library, found.id, service.engine.settings.max_text_bytes) as opened:
            return decode_text(opened.file.read())
    except MediaError as error:
        raise HTTPException(404, f"There is no text of item {found.id}: {error}.") from error


class PictureRequest(NamedTuple):
    """A picture that is asked for. side: pixels at most; None for the file as it is. part: of several."""

    item_id: int
    side: int | None
    part: int


def _send(service: Service, wanted: PictureRequest, known: str | None, version: str | None) -> Response:
    """Make a response of a picture, which is opened once: what is said of it is said of the bytes that are sent."""
    item_id, side, part = wanted
    what = "picture" if side is None else "thumbnail"
    try:
        with pictures.open_picture(service.engine, item_id) as picture:
            if side is None and pictures.position_of(picture, part) is not None:
                side = MAX_SIDE
            headers = _caching(picture, f"{what if side is None else side}{f'-{part}' if part else ''}", version)
            if _is_known(headers["ETag"], known):
                return Response(status_code=304, headers=headers)
            if side is not None:
                data = pictures.make_thumbnail(service.engine, picture, side, part)
                return Response(data, headers=headers, media_type="image/jpeg")
            data, media_type = pictures.read_file(service.engine, picture)
    except MediaError as error:
        raise HTTPException(404, f"There is no {what} of item {item_id}: {error}.") from error
    size = {"Content-Length": str(len(data))}
    pieces = _pieces(data, service.sending)
    next(pieces)  # counts it at once; a generator that has begun also ends where nobody takes its pieces
    return StreamingResponse(pieces, headers={**headers, **size}, media_type=media_type)


def _caching(picture: OpenPicture, what: str, version: str | None) -> dict[str, str]:
    """Return the headers by which a client keeps a picture: for good where its URL names the content."""
    is_fixed = picture.is_as_indexed and version == payloads.version(picture.content_hash)
    return {"ETag": f'"{picture.version}-{what}"', "Cache-Control": _FOR_GOOD if is_fixed else _ASK_AGAIN}


def _is_known(tag: str, known: str | None) -> bool:
    given = [each.strip().removeprefix("W/") for each in (known or "").split(",")]
    return tag in given or "*" in given


def _pieces(data: bytes, sending: Sending) -> Iterator[bytes]:
    """Cut a file up, so that a client that stops reading is noticed. Raises BusyError where too much is being sent."""
    with sending.hold(len(data)):
        yield b""
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]
