"""Answers as JSON: the payload of the command line, with what a page or a client needs of each item."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from clipsearch import present
from clipsearch.server.forms import MAX_OFFSET
from clipsearch.types import Facets, Item, Listing, Modality, Page, Results

MAX_EXCERPT = 2000
"""Characters of the caption and the text of an item in a list."""


def json_response(payload: object) -> Response:
    """Make a response of a payload."""
    return Response(present.to_json(payload), media_type="application/json")


def answer(found: Results, k: int) -> dict[str, Any]:
    """Return the payload of an answer of at most k hits."""
    payload = present.to_payload(found)
    for hit, shown in zip(found, payload["hits"], strict=True):
        shown |= {name: value for name, value in item(hit.item).items() if name not in shown}
    more = {"confident": found.confident, "warnings": list(found.warnings), "left_out": found.left_out}
    # Offsets count hits that stayed, of the first offset + k that there are. After a page with none, none follows.
    is_full = bool(found) and len(found) + found.left_out == k
    return {**payload, **more, "next_offset": _next_offset(found.offset + len(found), is_full)}


def item(found: Item, *, whole: bool = False) -> dict[str, Any]:
    """Return the payload of an item. whole: with all of its caption and text."""
    payload = present.item_payload(found)
    if not whole:
        payload |= {name: _excerpt(payload[name]) for name in ("caption", "text")}
    is_picture = found.modality is Modality.IMAGE
    thumbnail = f"/v1/items/{found.id}/thumbnail?v={version(found.content_hash)}" if is_picture else None
    return {**payload, "content_hash": found.content_hash, "thumbnail": thumbnail}


def listing(found: Listing, limit: int, offset: int) -> dict[str, Any]:
    """Return the payload of a listing of at most `limit` items."""
    listed = [{**item(each), "tags": list(found.tags.get(each.id, ()))} for each in found]
    following = _next_offset(offset + limit, found.total > offset + limit)
    shown = {"library": found.library, "total": found.total, "items": listed, "warnings": list(found.warnings)}
    return {**shown, "next_offset": following}


def page(found: Page) -> dict[str, Any]:
    """Return the payload of a page."""
    return {"items": [item(each) for each in found], "warnings": list(found.warnings), "cursor": found.cursor}


def facets(found: Facets) -> dict[str, Any]:
    """Return the payload of facets."""
    names = ("months", "cameras", "folders", "tags", "modalities")
    counted = {name: [{"value": value, "count": count} for value, count in getattr(found, name)] for name in names}
    return {"total": found.total, **counted}


def version(content_hash: str) -> str:
    """Return what changes whenever the content of an item does, as URLs have it."""
    return content_hash[:16]


def _next_offset(offset: int, has_more: bool) -> int | None:
    return offset if has_more and offset <= MAX_OFFSET else None


def _excerpt(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"
