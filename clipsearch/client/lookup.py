"""Items, counts, vectors and thumbnails as requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.client import answers
from clipsearch.client.calls import MAX_COUNT, MAX_KEYS, Call, Steps
from clipsearch.client.filters import to_form
from clipsearch.client.pictures import data_url, read_picture_file
from clipsearch.client.searching import parts_of
from clipsearch.errors import EncoderUnavailableError, InvalidInputError, MediaError
from clipsearch.filtering import Filter
from clipsearch.query.validation import as_modality, read_count, read_keys
from clipsearch.sorting import SORTS, TAKEN, check_sort
from clipsearch.types import Facets, Item, Listing, Modality, Page, Places

if TYPE_CHECKING:
    from clipsearch.client.answers import ServerStats
    from clipsearch.query.embedding import Picture
    from clipsearch.query.understanding.understood import Understood

MAX_TEXTS, MAX_LETTERS = 256, 200_000
"""Texts that are embedded by one request, and their characters together."""

MAX_PICTURES, MAX_PICTURE_BYTES = 16, 12 << 20
"""Pictures that are embedded by one request, and the bytes of their files, unless one has more."""


def find(filters: Filter | None, limit: int | None, offset: int, sort: str = TAKEN) -> Steps[Listing]:
    """List items in an order, by as many requests as it takes."""
    form: dict[str, object] = {"filters": to_form(filters)}
    if check_sort(sort, SORTS[1:]) != TAKEN:  # which servers of before know alone
        form["sort"] = sort
    most = None if limit is None else read_count("limit", limit)
    start = offset if offset == 0 else read_count("offset", offset)
    found: Listing = yield _find(form, MAX_COUNT if most is None else min(most, MAX_COUNT), start)
    items, tags, is_more = list(found.items), dict(found.tags), len(found) == MAX_COUNT
    while is_more and (most is None or len(items) < most):
        wanted = MAX_COUNT if most is None else min(most - len(items), MAX_COUNT)
        part: Listing = yield _find(form, wanted, start + len(items))
        items += part.items
        tags |= part.tags
        is_more = len(part) == MAX_COUNT
    return Listing(found.library, tuple(items), found.total, tags, found.warnings)


def get(ids: str | Iterable[str]) -> Steps[Item | list[Item | None] | None]:
    """Look items up by their keys."""
    found: list[Item | None] = []
    for keys in parts_of(read_keys(ids), MAX_KEYS):
        found += yield Call("POST", "/v1/items/get", answers.read_looked(len(keys)), {"keys": keys})
    return found[0] if isinstance(ids, str) else found


def count(filters: Filter | None) -> Steps[int]:
    """Count items."""
    asked = {"filters": to_form(filters), "limit": 1}
    found: int = yield Call("POST", "/v1/find", answers.read_count("total"), asked)
    return found


def page(filters: Filter | None, cursor: str | None, limit: int) -> Steps[Page]:
    """Return the next items in order of their ids."""
    asked = {"filters": to_form(filters), "cursor": cursor, "limit": read_count("limit", limit), "whole": True}
    found: Page = yield Call("POST", "/v1/items/page", answers.read_page, asked)
    return found


def facets(filters: Filter | None, limit: int) -> Steps[Facets]:
    """Count items by their values."""
    asked = {"filters": to_form(filters), "limit": read_count("limit", limit)}
    found: Facets = yield Call("POST", "/v1/facets", answers.read_facets, asked)
    return found


def understand(text: str) -> Steps[Understood]:
    """Lift filters out of words."""
    if not isinstance(text, str):
        raise InvalidInputError(f"Words to understand are a str, not {type(text).__name__}.")
    found: Understood = yield Call("POST", "/v1/understand", answers.read_understood, {"text": text})
    return found


def places(filters: Filter | None, cells: int) -> Steps[Places]:
    """Ask where items were taken."""
    asked = {"filters": to_form(filters), "cells": read_count("number of cells", cells)}
    found: Places = yield Call("POST", "/v1/places", answers.read_places, asked)
    return found


def stats() -> Steps[ServerStats]:
    """Ask what the library holds."""
    found: ServerStats = yield Call("GET", "/v1/stats", answers.read_stats)
    return found


def vectors(ids: str | Iterable[str], modality: Modality | str | None) -> Steps[NDArray[np.float32]]:
    """Return stored vectors."""
    kind = None if modality is None else str(as_modality(modality))
    keys = read_keys(ids)
    found = []
    for part in parts_of(keys, MAX_KEYS):
        asked = {"keys": part, "modality": kind}
        found.append((yield Call("POST", "/v1/vectors", answers.read_vectors(len(part)), asked)))
    return np.concatenate(found) if found else (yield from _no_vectors())


def embed(texts: Iterable[str] | None, images: Iterable[Picture] | None, kind: str) -> Steps[NDArray[np.float32]]:
    """Embed texts or pictures by the encoder of the server."""
    if (texts is None) == (images is None):
        raise InvalidInputError("Embed one of texts and images.")
    if isinstance(texts, str) or isinstance(images, str | bytes):
        raise InvalidInputError("texts and images are lists, even for one.")
    found = []
    for part in _text_parts(texts) if texts is not None else _picture_parts(images or ()):
        asked = {"input": part, "kind": kind, "encoding_format": "base64"}
        found.append((yield Call("POST", "/v1/embeddings", answers.read_embeddings(len(part)), asked)))
    return np.concatenate(found) if found else (yield from _no_vectors())


def thumbnail(key: str, side: int) -> Steps[bytes]:
    """Return the picture of an item as a JPEG."""
    if not isinstance(side, int) or isinstance(side, bool):
        raise InvalidInputError(f"The side of a thumbnail is a whole number of pixels, not {side!r}.")
    item = (yield from get(key)) if isinstance(key, str) and key else None
    if not isinstance(item, Item):
        raise InvalidInputError(f"No item has the key {key!r}. Take it from a hit: hit.item.key.")
    path, params = f"/v1/items/{item.id}/thumbnail", (("size", str(side)),)
    data: bytes = yield Call("GET", path, bytes, params=params, is_json=False, missing=MediaError)
    return data


def _find(form: Mapping[str, object], limit: int, offset: int) -> Call[Listing]:
    asked = {**form, "limit": limit, "offset": offset, "whole": True}
    return Call("POST", "/v1/find", answers.read_listing, asked)


def _no_vectors() -> Steps[NDArray[np.float32]]:
    found = yield from stats()
    if found.dimensions is None:
        raise EncoderUnavailableError("The library of the server has no encoder yet. Index something there first.")
    return np.empty((0, found.dimensions), np.float32)


def _text_parts(texts: Iterable[str]) -> Iterator[list[dict[str, str]]]:
    part: list[dict[str, str]] = []
    letters = 0
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"texts[{number}] is {text!r:.80}, but it must be a string with words.")
        if part and (len(part) == MAX_TEXTS or letters + len(text) > MAX_LETTERS):
            yield part
            part, letters = [], 0
        part.append({"text": text})
        letters += len(text)
    if part:
        yield part


def _picture_parts(images: Iterable[Picture]) -> Iterator[list[dict[str, str]]]:
    part: list[dict[str, str]] = []
    size = 0
    for number, image in enumerate(images):
        try:
            data = read_picture_file(image)
        except (InvalidInputError, MediaError) as error:
            raise type(error)(f"images[{number}] cannot be embedded: {error}") from error
        if part and (len(part) == MAX_PICTURES or size + len(data) > MAX_PICTURE_BYTES):
            yield part
            part, size = [], 0
        part.append({"image": data_url(data)})
        size += len(data)
    if part:
        yield part
