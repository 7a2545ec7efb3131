"""Deleting items: marking them deleted, so that they can be restored, or erasing them with their data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Select, delete, func, select, update

from clipsearch.store import collections, full_text, recognised, second_set, shards, tags
from clipsearch.store.records import RootKind, Scope
from clipsearch.store.roots import under
from clipsearch.store.rows import hide
from clipsearch.store.schema import (
    failures,
    item_media,
    item_metadata,
    items,
    metadata_values,
    record_contents,
    record_pictures,
    roots,
    vectors,
)
from clipsearch.store.sql_values import chunks, listed


def tombstone(connection: Connection, ids: Select[tuple[int]]) -> None:
    """Mark items deleted and hide their rows. They are kept, so that files that come back need no encoding."""
    hide(connection, ids)
    connection.execute(update(items).where(items.c.id.in_(ids)).values(deleted=True))


def erase_items(connection: Connection, ids: Select[tuple[int]] | Sequence[int]) -> None:
    """Erase items with all that is known of them. Their rows stay on disk, hidden, until a compaction."""
    tombstone(connection, select(items.c.id).where(items.c.id.in_(ids)))
    full_text.remove(connection, ids)
    tags.remove(connection, ids)
    collections.remove(connection, ids)
    shards.remove_items(connection, ids)
    recognised.remove(connection, ids)
    second_set.forget(connection, ids)
    for table in (vectors, item_metadata, metadata_values, item_media, record_contents, record_pictures):
        connection.execute(delete(table).where(table.c.item_id.in_(ids)))
    connection.execute(delete(items).where(items.c.id.in_(ids)))


def delete_items(connection: Connection, ids: Iterable[int]) -> None:
    """Erase records, and mark files deleted: these come back at no cost."""
    chosen = select(items.c.id).where(items.c.id.in_(listed(ids)))
    is_file = items.c.root_id.in_(select(roots.c.id).where(roots.c.kind == RootKind.FOLDER))
    tombstone(connection, chosen.where(is_file))
    records = connection.execute(chosen.where(~is_file)).scalars().all()
    for chunk in chunks(records):
        erase_items(connection, chunk)


def erase_unseen(connection: Connection, root_id: int) -> int:
    """Erase the items of a data set whose rows or shards are gone; return how many."""
    ids = shards.take_unseen(connection, root_id)
    for chunk in chunks(ids):
        erase_items(connection, chunk)
    return len(ids)


def erase_scope(connection: Connection, scope: Scope) -> int:
    """Erase a scope's items and failures, and the root if the scope is all of it; return how many items were live."""
    inside = under(items, scope)
    live = select(func.count()).select_from(items).where(inside, ~items.c.deleted)
    count: int = connection.execute(live).scalar_one()
    erase_items(connection, select(items.c.id).where(inside))
    connection.execute(delete(failures).where(under(failures, scope)))
    if not scope.prefix:
        shards.remove_root(connection, scope.root_id)
        connection.execute(delete(roots).where(roots.c.id == scope.root_id))
    return count
