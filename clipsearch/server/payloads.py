"""Answers as JSON: the payload of the command line, with what a page or a client needs of each item."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from clipsearch import present, present_matches
from clipsearch.linalg import to_base64
from clipsearch.matches import Matches
from clipsearch.server.forms import MAX_OFFSET
from clipsearch.types import Facets, Hit, Item, Listing, Modality, Page, Places, Results

MAX_EXCERPT = 2000
"""Characters of the caption and the text of an item in a list."""


def json_response(payload: object) -> Response:
    """Make a response of a payload."""
    return Response(present.to_json(payload), media_type="application/json")


def answer(found: Results, k: int, *, whole: bool = False, group: str | None = None) -> dict[str, Any]:
    """Return the payload of an answer of at most k hits. whole: with all that is known of each. group: as they are put.

    A group is of the hits of one page.
    """
    payload = present.to_payload(found, group)
    hits, _ = present.in_groups(found, group)
    for hit, shown in zip(hits, payload["hits"], strict=True):
        shown |= {name: value for name, value in item(hit.item, whole=whole).items() if name not in shown}
        if hit.position is not None and shown["thumbnail"] and hit.modality is Modality.IMAGE:
            shown["thumbnail"] += f"&part={hit.part}"
        if whole:
            shown |= _whole_hit(hit)
    more = {"confident": found.confident, "warnings": list(found.warnings), "left_out": found.left_out}
    # Offsets count hits that stayed, of the first offset + k that there are. After a page with none, none follows.
    is_full = bool(found) and len(found) + found.left_out == k
    return {**payload, **more, "next_offset": _next_offset(found.offset + len(found), is_full)}


def matches(found: Matches, *, whole: bool = False) -> dict[str, Any]:
    """Return the payload of matches. whole: with all that is known of each."""
    payload = present_matches.to_payload(found)
    for match, shown in zip(found, payload["matches"], strict=True):
        shown |= {name: value for name, value in item(match.item, whole=whole).items() if name not in shown}
        if match.position is not None and shown["thumbnail"]:
            shown["thumbnail"] += f"&part={match.part}"
        if whole:
            shown |= {"score": match.score, "part_index": match.part}
    if whole:
        for unread, shown in zip(found.unread, payload["unread"], strict=True):
            shown |= {"item": item(unread.item, whole=True), "score": unread.score}
    return {**payload, "warnings": list(found.warnings)}


def item(found: Item, *, whole: bool = False) -> dict[str, Any]:
    """Return the payload of an item. whole: with all of its caption and text, and what only programs need."""
    payload = present.item_payload(found)
    if whole:
        payload |= {"size": found.size, "mtime_ns": found.mtime_ns}
    else:
        payload |= {name: _excerpt(payload[name]) for name in ("caption", "text")}
    is_picture = found.modality is Modality.IMAGE
    thumbnail = f"/v1/items/{found.id}/thumbnail?v={version(found.content_hash)}" if is_picture else None
    return {**payload, "content_hash": found.content_hash, "thumbnail": thumbnail}


def listing(
    found: Listing, limit: int, offset: int, *, whole: bool = False, group: str | None = None
) -> dict[str, Any]:
    """Return the payload of a listing of at most `limit` items. whole, group: as of an answer."""
    items, groups = present.in_groups(found, group)
    listed = [item(each, whole=whole) for each in items]
    following = _next_offset(offset + limit, found.total > offset + limit)
    shown = {"library": found.library, "total": found.total, "items": listed, "warnings": list(found.warnings)}
    return {**shown, "next_offset": following, **({} if groups is None else {"groups": groups})}


def page(found: Page, *, whole: bool = False) -> dict[str, Any]:
    """Return the payload of a page. whole: with all that is known of each item."""
    return {
        "items": [item(each, whole=whole) for each in found],
        "warnings": list(found.warnings),
        "cursor": found.cursor,
    }


def facets(found: Facets) -> dict[str, Any]:
    """Return the payload of facets."""
    names = ("months", "cameras", "folders", "tags", "modalities")
    counted = {name: [{"value": value, "count": count} for value, count in getattr(found, name)] for name in names}
    return {"total": found.total, **counted}


def vectors(found: NDArray[np.float32]) -> dict[str, Any]:
    """Return the payload of vectors: float32 (n, dim)."""
    return {"dimensions": found.shape[1], "data": to_base64(found)}


def places(found: Places) -> dict[str, Any]:
    """Return the payload of places."""
    bounds = None if found.bounds is None else list(found.bounds)
    return {"total": found.total, "clusters": [asdict(each) for each in found.clusters], "bounds": bounds}


def version(content_hash: str) -> str:
    """Return what changes whenever the content of an item does, as URLs have it."""
    return content_hash[:16]


def _next_offset(offset: int, has_more: bool) -> int | None:
    return offset if has_more and offset <= MAX_OFFSET else None


def _whole_hit(hit: Hit) -> dict[str, Any]:
    """Return what a program needs to make the same hit again: numbers that are not rounded, all of what repeats it."""
    rarity = hit.log_evalue if math.isfinite(hit.log_evalue) else None  # JSON has no infinity
    numbers = {"score": hit.score, "confidence": hit.confidence, "log_evalue": rarity, "part_index": hit.part}
    return numbers if hit.also is None else {**numbers, "also": [item(each, whole=True) for each in hit.also]}


def _excerpt(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"
