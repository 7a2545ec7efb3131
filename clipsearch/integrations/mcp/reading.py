"""The tools of the MCP server that look, and change nothing.

Their docstrings and the descriptions of their arguments are what a model reads. Items are named by key, never by a path
outside the library or a URL, so that nothing but what is indexed is read and given out.
"""

from __future__ import annotations

import base64
import functools
import operator
from collections.abc import Iterable
from typing import Annotated, Any

from mcp_types import CallToolResult, ImageContent
from pydantic import Field

from clipsearch import (
    Filter,
    Indexed,
    InvalidInputError,
    Item,
    Picture,
    Query,
    SearchEngine,
    parse,
    present,
)
from clipsearch.forms import Filters, Key, Keys, Words
from clipsearch.integrations.mcp import forms

MAX_SIDE, MAX_PICTURE_BYTES = 1024, 700_000
"""Of a picture that is given out; assistants refuse results beyond about a megabyte, of which base64 adds a third."""


class ReadingTools:
    """The tools that change nothing."""

    def __init__(self, engine: SearchEngine, *, writable: bool) -> None:
        self._engine = engine
        self._writable = writable

    def search(
        self,
        text: Annotated[
            Words | None, Field(description="What to look for, in plain words of any length: `a cat on a sofa`.")
        ] = None,
        query: Annotated[
            Words | None,
            Field(
                description="Instead of `text`: terms that add and take away, each with an optional weight, such as "
                '`"horse" + 2:"stripes" - "fence"`, or `("dog" or "cat") and not tag:"indoor"`. `id:17` stands for the '
                "item with that id."
            ),
        ] = None,
        k: forms.Count = 10,
        offset: forms.Offset = 0,
        modality: forms.Kind = None,
        filters: Filters | None = None,
        min_confidence: forms.Least = None,
        understand: Annotated[
            bool,
            Field(
                description="Lift dates, places, tags and cameras out of `text`, as in `beach in Spain, July 2023`; "
                "the answer then says what was `understood`."
            ),
        ] = False,
    ) -> Annotated[CallToolResult, forms.Answer]:
        """Search pictures and texts by meaning; the best match comes first. Give `text` or `query`.

        A picture matches by what it shows, by its captions and by text in it; a text by its passages.
        """
        if (text is None) == (query is None):
            raise InvalidInputError("A search takes one of `text` and `query`.")
        words = _read_query(query) if text is None else text
        return self._answer(words, k, offset, modality, filters, min_confidence, understand=understand)

    def similar(
        self,
        keys: Annotated[Keys, Field(min_length=1, description="Keys of items, from earlier results.")],
        unlike: Annotated[Keys | None, Field(description="Keys of items whose like is not wanted.")] = None,
        k: forms.Count = 10,
        offset: forms.Offset = 0,
        modality: forms.Kind = None,
        filters: Filters | None = None,
        min_confidence: forms.Least = None,
    ) -> Annotated[CallToolResult, forms.Answer]:
        """Find more like one or several items, and less like others. The items themselves are left out."""
        liked = [Indexed(item.id) for item in _items(self._engine, keys)]
        disliked = [Indexed(item.id) for item in _items(self._engine, unlike or ())]
        query = functools.reduce(operator.sub, disliked, functools.reduce(operator.add, liked))
        return self._answer(query, k, offset, modality, filters, min_confidence)

    def find(
        self,
        filters: Filters | None = None,
        limit: forms.Count = 20,
        offset: forms.Offset = 0,
    ) -> Annotated[CallToolResult, forms.Listing]:
        """List the items that filters allow, newest first, and how many there are: by date, tag, folder, metadata."""
        found = self._engine.find(_filter(filters), limit=offset + limit)
        payload = present.listing_payload(found)
        listed = zip(found, payload["items"], strict=True)
        payload["items"] = [{**listing, **_details(item)} for item, listing in listed][offset:]
        payload["next_offset"] = offset + limit if found.total > offset + limit else None
        return forms.to_result(payload)

    def get_image(
        self,
        key: Annotated[Key, Field(description="Key of an item, from earlier results.")],
        side: Annotated[
            int,
            Field(ge=16, le=MAX_SIDE, description="Pixels of the longer side at most; the picture is reduced to it."),
        ] = 512,
    ) -> CallToolResult:
        """Look at the picture of an item, as a JPEG. Only items of the library can be seen, by their keys."""
        (item,) = _items(self._engine, [key])
        data = self._engine.thumbnail(item.key, side=side)
        while len(data) > MAX_PICTURE_BYTES and side > 64:
            side = side * 3 // 4
            data = self._engine.thumbnail(item.key, side=side)
        picture = ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type="image/jpeg")
        return CallToolResult(content=[picture])

    def stats(self) -> Annotated[CallToolResult, forms.Stats]:
        """Say what the library holds: how many pictures and texts, and the model that compares them."""
        pin = self._engine.library.encoder
        count = self._engine.count
        pictures, texts = count(Filter(types=("image",))), count(Filter(types=("text",)))
        held = {"items": pictures + texts, "pictures": pictures, "texts": texts, "writable": self._writable}
        model = {"encoder": pin and pin.name, "dimensions": pin and pin.dim}
        return forms.to_result({"library": str(self._engine.library.folder), **held, **model})

    def _answer(
        self,
        words: str | Indexed | Query,
        k: int,
        offset: int,
        modality: str | None,
        filters: Filters | None,
        min_confidence: float | None,
        *,
        understand: bool = False,
    ) -> CallToolResult:
        found = self._engine.search(
            words,
            k=k,
            offset=offset,
            modality=modality,
            filters=_filter(filters),
            min_confidence=min_confidence,
            understand=understand and isinstance(words, str),
        )
        payload = present.to_payload(found)
        hits = zip(found, payload["hits"], strict=True)
        payload["hits"] = [{**shown, **_details(hit.item)} for hit, shown in hits]
        more = {"confident": found.confident, "warnings": list(found.warnings)}
        following = offset + k if len(found) == k else None
        return forms.to_result({**payload, **more, "next_offset": following})


def _read_query(query: str | None) -> Query:
    found = parse(query or "")
    if any(isinstance(term, Picture) for term in found.leaves()):
        raise InvalidInputError(
            "A query here names no pictures by path or URL. For the picture of an item, use `similar`; for words that "
            'look like a path, write text:"...".'
        )
    return found


def _filter(filters: Filters | None) -> Filter | None:
    return None if filters is None else filters.build()


def _items(engine: SearchEngine, keys: Iterable[str]) -> list[Item]:
    """Return the items of keys. Raises InvalidInputError for a key that none has."""
    wanted = list(keys)
    found = engine.get(wanted)
    for key, item in zip(wanted, found, strict=True):
        if item is None:
            raise InvalidInputError(f"No item has the key {key!r}. Take keys from the results of search or find.")
    return [item for item in found if item is not None]


def _details(item: Item) -> dict[str, Any]:
    """Return what a model needs of an item, beside what the command line shows of a hit."""
    said = {"caption": forms.excerpt(item.caption), "text": forms.excerpt(item.text)}
    return {"key": item.key, **said, "metadata": dict(item.metadata)}
