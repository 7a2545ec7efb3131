"""Items with what stands beside them in the catalog: metadata, tags, and what records hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from clipsearch.store.item_media import infos_of
from clipsearch.store.item_metadata import values_of
from clipsearch.store.record_contents import Contents, contents_of
from clipsearch.store.tags import names_of
from clipsearch.types import Item, MediaInfo, MetadataValue

_NOTHING = Contents(None, None)


def enrich(connection: Connection, found: Sequence[Item]) -> tuple[list[Item], set[int]]:
    """Return items with their metadata, texts and tags, and records with the paths of their pictures.

    Those of which any of that is damaged are left out; their ids come second.
    """
    ids = [item.id for item in found]
    metadata, damaged = values_of(connection, ids)
    contents, also_damaged = contents_of(connection, ids)
    damaged |= also_damaged
    tags, media = names_of(connection, ids), infos_of(connection, ids)
    return [
        _complete(
            item, metadata.get(item.id), contents.get(item.id, _NOTHING), tags.get(item.id, ()), media.get(item.id)
        )
        if item.id in metadata or item.id in contents or item.id in tags or item.id in media
        else item
        for item in found
        if item.id not in damaged
    ], damaged


def _complete(
    item: Item,
    metadata: dict[str, MetadataValue] | None,
    contents: Contents,
    tags: tuple[str, ...],
    media: MediaInfo | None,
) -> Item:
    path = contents.source or item.path
    return replace(item, path=path, text=contents.text, metadata=metadata or {}, tags=tags, media=media)
