"""What a search found, as nodes of LlamaIndex."""

from __future__ import annotations

from collections.abc import Iterable

from llama_index.core.schema import BaseNode

from clipsearch import Hit, InvalidInputError, Item, MediaError, SearchEngine
from clipsearch.integrations.llama_index.nodes import had_bytes, to_node

PICTURE_SIDE = 1024
"""Pixels of the longer side, at most, of a picture that comes back as bytes."""


def nodes_of_items(engine: SearchEngine, items: Iterable[Item], with_pictures: bool) -> list[BaseNode]:
    """Return items as nodes; with_pictures: with the pictures of those that were written with their bytes."""
    return [to_node(item, picture=_picture(engine, item) if with_pictures else None) for item in items]


def nodes_of_hits(engine: SearchEngine, hits: Iterable[Hit], with_pictures: bool) -> list[BaseNode]:
    """Return hits as nodes; with_pictures: with the pictures of those that were written with their bytes."""
    return [to_node(hit.item, hit=hit, picture=_picture(engine, hit.item) if with_pictures else None) for hit in hits]


def _picture(engine: SearchEngine, item: Item) -> bytes | None:
    if not had_bytes(item):
        return None
    try:
        return engine.thumbnail(item.key, side=PICTURE_SIDE)
    except (InvalidInputError, MediaError):  # it was deleted meanwhile, or its picture was not kept
        return None
