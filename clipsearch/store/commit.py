"""Storing files: their items, their words and where their rows are, inside the transaction of a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, delete, insert, literal, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from clipsearch.paths import quote_path
from clipsearch.store import full_text, tags
from clipsearch.store.checksums import row_checksum
from clipsearch.store.deletion import tombstone
from clipsearch.store.ledger import Ledger
from clipsearch.store.records import CommitCounts, Failed
from clipsearch.store.resolve import Content, Rows, item_at
from clipsearch.store.rows import Appended, hide
from clipsearch.store.schema import failures, items, tombstones, vectors
from clipsearch.store.tags import TagSource
from clipsearch.types import Modality


def store(connection: Connection, content: Content, appended: Appended, ledger: Ledger, counts: CommitCounts) -> None:
    """Store what a file holds, and count what that was."""
    record = content.record
    path = quote_path(record.path)
    place = {"root_id": record.root_id, "path": path, "size": record.size, "mtime_ns": record.mtime_ns}
    at_path = (failures.c.root_id == record.root_id) & (failures.c.path == path)
    connection.execute(delete(failures).where(at_path))
    if content.moved_from is not None:
        _move(connection, content, place, appended, counts)
        ledger.found_again(content.moved_from)
        return
    own = item_at(connection, record)
    values = {
        **asdict(content.columns),
        "caption": content.caption,
        "caption_stamp": None,
        **_stamp(content),
        **place,
        "deleted": False,
    }
    if own is None:
        item_id: int = connection.execute(insert(items).values(**values).returning(items.c.id)).scalar_one()
    else:
        item_id = own.id
        _clear(connection, own, content)
        connection.execute(update(items).where(items.c.id == item_id).values(**values))
    if own is None or own.deleted:
        counts.added += 1
    else:
        counts.changed += 1
    _store_parts(connection, item_id, content, appended)


def _clear(connection: Connection, own: Row[Any], content: Content) -> None:
    """Take from an item what belongs to its content, which another one replaces."""
    tombstone(connection, select(literal(own.id)))
    full_text.remove(connection, [own.id])
    if own.content_hash != content.columns.content_hash:
        # A text has no keywords; those of a picture stay until the store is given new ones.
        is_picture = content.columns.modality == Modality.IMAGE
        tags.remove(connection, [own.id], TagSource.LABEL if is_picture else None)
    connection.execute(delete(vectors).where(vectors.c.item_id == own.id))


def _move(
    connection: Connection, content: Content, place: dict[str, Any], appended: Appended, counts: CommitCounts
) -> None:
    """Give an item its new place and captions, and bring it back if it was deleted."""
    item_id = content.moved_from
    before = connection.execute(select(items).where(items.c.id == item_id)).one()
    _swap_places(connection, before, place)
    if before.deleted:
        _uncover(connection, before.id)
    # Rows that were appended are taken whatever there is by now: those of the next file come after them.
    has_new_captions = bool(content.rows) or content.caption != before.caption
    if has_new_captions:
        full_text.remove(connection, [before.id])
        _drop_captions(connection, before.id)
    values = {"caption": content.caption, **_stamp(content), **place, "deleted": False}
    connection.execute(update(items).where(items.c.id == item_id).values(**values))
    if has_new_captions:
        _store_parts(connection, before.id, content, appended)
    if before.deleted:
        counts.added += 1
    elif (before.root_id, before.path) != (place["root_id"], place["path"]):
        counts.moved += 1
    elif has_new_captions:
        counts.changed += 1
    else:
        counts.unchanged += 1


def _uncover(connection: Connection, item_id: int) -> None:
    """Take the rows of an item off the tombstones."""
    for modality in Modality:
        own = select(vectors.c.row).where(vectors.c.item_id == item_id, vectors.c.modality == modality)
        connection.execute(delete(tombstones).where(tombstones.c.modality == modality, tombstones.c.row.in_(own)))


def store_failure(connection: Connection, failed: Failed) -> None:
    """Store why a file cannot be indexed; its item is not found any more, unless the file could not be opened."""
    record = failed.record
    values = {
        "size": record.size,
        "mtime_ns": record.mtime_ns,
        "reason": failed.reason,
        "transient": failed.transient,
    }
    statement = upsert(failures).values(root_id=record.root_id, path=quote_path(record.path), **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["root_id", "path"], set_=values))
    own = item_at(connection, record)
    if own is not None and not failed.transient:
        tombstone(connection, select(literal(own.id)))


def rows_of_contents(contents: Sequence[Content]) -> Rows:
    """Stack the rows of a batch by modality, in its order."""
    blocks: dict[Modality, list[NDArray[np.float16]]] = {}
    for content in contents:
        for modality, rows in content.rows.items():
            blocks.setdefault(modality, []).append(rows)
    return {modality: np.concatenate(rows) for modality, rows in blocks.items()}


def _stamp(content: Content) -> dict[str, Any]:
    """Return the stamp of the captions that a file has now, if that is known."""
    return {} if content.captions is None else {"caption_stamp": content.captions.stamp}


def _store_parts(connection: Connection, item_id: int, content: Content, appended: Appended) -> None:
    """Note where the rows of an item are, and its words."""
    next_row = {modality: appended.take(modality, len(rows)) for modality, rows in content.rows.items()}
    vectors_of = {modality: iter(rows) for modality, rows in content.rows.items()}
    places = []
    for part in content.parts:
        modality = part.modality
        checksum = row_checksum(next(vectors_of[modality]).data, modality, item_id, part.part, part.passage)
        places.append({**asdict(part), "item_id": item_id, "row": next_row[modality], "checksum": checksum})
        next_row[modality] += 1
    if places:
        connection.execute(insert(vectors), places)
    words = content.caption or full_text.join_passages(part.text for part in content.parts)
    full_text.add(connection, [(item_id, words)])
    if content.captions is not None:
        tags.set_tags(connection, item_id, content.captions.keywords, TagSource.FILE)


def _drop_captions(connection: Connection, item_id: int) -> None:
    """Hide the rows of a picture's captions, and take them from it."""
    hide(connection, [item_id], Modality.TEXT)
    own = (vectors.c.item_id == item_id, vectors.c.modality == Modality.TEXT)
    connection.execute(delete(vectors).where(*own))


def _swap_places(connection: Connection, moving: Row[Any], place: dict[str, Any]) -> None:
    """Give the deleted item that holds a place, if there is one, the place of the item that is moving there."""
    at_place = (items.c.root_id == place["root_id"]) & (items.c.path == place["path"]) & (items.c.id != moving.id)
    holder = connection.execute(select(items.c.id).where(at_place)).scalar_one_or_none()
    if holder is not None:
        for number, path in ((moving.id, f"/{moving.id}"), (holder, moving.path)):  # no stored path starts with "/"
            root = moving.root_id
            connection.execute(update(items).where(items.c.id == number).values(root_id=root, path=path))
