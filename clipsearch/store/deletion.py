"""Deleting items: marking them deleted, so that they can be restored, or erasing them with their data."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Select, delete, func, select, update

from clipsearch.store import full_text, recognised, tags
from clipsearch.store.records import Scope
from clipsearch.store.roots import under
from clipsearch.store.rows import hide
from clipsearch.store.schema import failures, item_metadata, items, record_contents, roots, vectors


def tombstone(connection: Connection, ids: Select[tuple[int]]) -> None:
    """Mark items deleted and hide their rows. They are kept, so that files that come back need no encoding."""
    hide(connection, ids)
    connection.execute(update(items).where(items.c.id.in_(ids)).values(deleted=True))


def erase_items(connection: Connection, ids: Select[tuple[int]] | Sequence[int]) -> None:
    """Erase items with their words, tags and vectors. Their rows stay on disk, hidden, until a compaction."""
    tombstone(connection, select(items.c.id).where(items.c.id.in_(ids)))
    full_text.remove(connection, ids)
    tags.remove(connection, ids)
    recognised.remove(connection, ids)
    for table in (vectors, item_metadata, record_contents):
        connection.execute(delete(table).where(table.c.item_id.in_(ids)))
    connection.execute(delete(items).where(items.c.id.in_(ids)))


def erase_scope(connection: Connection, scope: Scope) -> int:
    """Erase a scope's items and failures, and the root if the scope is all of it; return how many items were live."""
    inside = under(items, scope)
    live = select(func.count()).select_from(items).where(inside, ~items.c.deleted)
    count: int = connection.execute(live).scalar_one()
    erase_items(connection, select(items.c.id).where(inside))
    connection.execute(delete(failures).where(under(failures, scope)))
    if not scope.prefix:
        connection.execute(delete(roots).where(roots.c.id == scope.root_id))
    return count
