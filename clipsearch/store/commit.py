"""Storing files: their items, their words and where their rows are, inside the transaction of a commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, literal, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from clipsearch.store import full_text, item_media, item_metadata, recognised, tags
from clipsearch.store.deletion import tombstone
from clipsearch.store.inserts import insert_items, insert_many
from clipsearch.store.ledger import Ledger
from clipsearch.store.records import CommitCounts, Failed
from clipsearch.store.resolve import Content, ItemColumns, Place, paths_by_root, place_of
from clipsearch.store.row_places import vector_columns
from clipsearch.store.rows import Appended, remove_rows
from clipsearch.store.schema import FIRST_RECOGNISED_PART, failures, items, tombstones, vectors
from clipsearch.store.sql_values import text_parameter, to_parameter
from clipsearch.store.tags import TagSource
from clipsearch.types import Modality

_FORGET = delete(failures).where(failures.c.root_id == bindparam("root"), failures.c.path.in_(text_parameter("paths")))
_DECIDED_BY_FILE = tuple(column.name for column in fields(ItemColumns))

_TAKEN = ("taken_at", "latitude", "longitude")


@dataclass(frozen=True, slots=True)
class _Placed:
    """A content, and in each modality the first of its rows."""

    content: Content
    first_rows: dict[Modality, int]


def store(
    connection: Connection, contents: Sequence[Content], appended: Appended, ledger: Ledger, counts: CommitCounts
) -> None:
    """Store what the files of a batch hold, and count what that was; new files go in together."""
    _forget_failures(connection, [content.place for content in contents])
    new: list[_Placed] = []
    known: dict[int, Content] = {}
    for content in contents:
        first_rows = {modality: appended.take(modality, len(rows)) for modality, rows in content.rows.items()}
        placed = _Placed(content, first_rows)
        if content.moved is not None:
            _move(connection, placed, content.moved, counts, has_followed=content.moved.id in ledger.followed)
            ledger.found_again(content.moved.id)
            if content.moved.root_id != content.record.root_id and not content.moved.deleted:
                ledger.left.add(content.moved.root_id)
            known[content.moved.id] = content
        elif content.own is not None:
            _replace(connection, placed, content.own, counts)
            known[content.own.id] = content
        else:
            new.append(placed)
    ids = _add(connection, new)
    counts.added += len(new)
    known |= {item_id: placed.content for item_id, placed in zip(ids, new, strict=True)}
    said = {item_id: each.record.beside for item_id, each in known.items()}
    facts = {i: each.captions.facts for i, each in known.items() if each.captions and each.captions.facts is not None}
    beside = {i: each.metadata for i, each in said.items() if each.stamp is not None}
    item_metadata.store_beside(connection, beside, facts)
    item_metadata.store_notes(connection, {i: each.note for i, each in known.items() if each.note is not None})


def _add(connection: Connection, new: Sequence[_Placed]) -> Sequence[int]:
    """Add the items of new files; return their ids."""
    ids = insert_items(connection, [_columns(placed.content) for placed in new])
    _store_parts(connection, ids, new)
    item_media.store(connection, {i: each.content.media for i, each in zip(ids, new, strict=True)})
    return ids


def _replace(connection: Connection, placed: _Placed, own: Row[Any], counts: CommitCounts) -> None:
    """Give an item the content that its file has now."""
    content = placed.content
    tombstone(connection, select(literal(own.id)))
    full_text.remove(connection, [own.id])
    recognised.remove(connection, [own.id])
    if own.content_hash != content.columns.content_hash:
        # A text has no keywords; those of a picture stay until the store is given new ones.
        is_picture = content.columns.modality == Modality.IMAGE
        tags.remove(connection, [own.id], TagSource.LABEL, *(() if is_picture else (TagSource.FILE,)))
    connection.execute(delete(vectors).where(vectors.c.item_id == own.id))
    connection.execute(update(items).where(items.c.id == own.id).values(**_columns(content)))
    if content.captions is not None:
        tags.remove(connection, [own.id], TagSource.FILE)
    _store_parts(connection, [own.id], [placed])
    item_media.store(connection, {own.id: content.media})
    if own.deleted:
        counts.added += 1
    else:
        counts.changed += 1


def _move(
    connection: Connection, placed: _Placed, before: Row[Any], counts: CommitCounts, *, has_followed: bool
) -> None:
    """Give an item its new place and captions, and bring it back if it was deleted.

    has_followed: whether it came here with its file before; then the name has another content, which counts as changed.
    """
    content = placed.content
    if content.own is not None and content.own.id != before.id:
        _swap_places(connection, before, content.own)
    if before.deleted:
        _uncover(connection, before.id)
    has_new_captions = bool(content.rows) or content.caption != before.caption
    if has_new_captions:
        full_text.remove(connection, [before.id])
        _drop_captions(connection, before.id)
    taken = {name: getattr(content.columns, name) for name in _TAKEN}
    has_other_facts = any(value != getattr(before, name) for name, value in taken.items())
    values = {"caption": content.caption, **taken, **_stamp(content), **_place(content), "deleted": False}
    connection.execute(update(items).where(items.c.id == before.id).values(**values))
    if has_new_captions:
        if content.captions is not None:
            tags.remove(connection, [before.id], TagSource.FILE)
        _store_parts(connection, [before.id], [placed], words=False)
        full_text.add_again(connection, [before.id])  # with the text in the picture, which has not changed
    if before.deleted:
        counts.added += 1
    elif (before.root_id, before.path) != content.place:
        counts.moved += 1
    elif has_followed or has_new_captions or has_other_facts:
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
    root_id, path = place_of(record)
    values = {
        "size": record.size,
        "mtime_ns": record.mtime_ns,
        "reason": failed.reason,
        "transient": failed.transient,
        "ctime_ns": record.identity.ctime_ns,
    }
    statement = upsert(failures).values(root_id=root_id, path=path, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["root_id", "path"], set_=values))
    if not failed.transient:
        at_path = (items.c.root_id == root_id) & (items.c.path == path)
        tombstone(connection, select(items.c.id).where(at_path))


def _forget_failures(connection: Connection, places: Iterable[Place]) -> None:
    """Drop why files at these places could not be indexed."""
    for root_id, paths in paths_by_root(places).items():
        connection.execute(_FORGET, {"root": root_id, "paths": to_parameter(paths)})


def _columns(content: Content) -> dict[str, Any]:
    """Return all columns of an item but its id, as they are stored."""
    columns = {name: getattr(content.columns, name) for name in _DECIDED_BY_FILE}
    words = {"caption": content.caption, "caption_stamp": None, **_stamp(content)}
    return {**columns, **words, **_place(content), "deleted": False}


def _place(content: Content) -> dict[str, Any]:
    root_id, path = content.place
    record = content.record
    stamp = {"size": record.size, "mtime_ns": record.mtime_ns, "beside_ctime_ns": record.beside.ctime_ns}
    return {"root_id": root_id, "path": path, **stamp, **record.identity._asdict()}


def _stamp(content: Content) -> dict[str, Any]:
    """Return the stamp of the captions that a file has now, if that is known."""
    return {} if content.captions is None else {"caption_stamp": content.captions.stamp}


def _store_parts(
    connection: Connection, ids: Sequence[int], contents: Sequence[_Placed], *, words: bool = True
) -> None:
    """Note where the rows of items are, the keywords of their files, and, unless the caller does, their words."""
    places: list[dict[str, Any]] = []
    texts, keywords = [], []
    for item_id, placed in zip(ids, contents, strict=True):
        content = placed.content
        places += vector_columns(item_id, content.parts, content.rows, placed.first_rows)
        texts.append((item_id, content.caption or full_text.join_passages(part.text for part in content.parts)))
        if content.captions is not None:
            keywords.append((item_id, content.captions.keywords))
    insert_many(connection, vectors, places)
    if words:
        full_text.add(connection, texts)
    tags.add(connection, keywords, TagSource.FILE)


def _drop_captions(connection: Connection, item_id: int) -> None:
    """Hide the rows of a picture's captions, and take them from it; the text in the picture stays."""
    is_caption = vectors.c.part < FIRST_RECOGNISED_PART
    remove_rows(connection, [item_id], Modality.TEXT, is_caption)


def _swap_places(connection: Connection, moving: Row[Any], holder: Row[Any]) -> None:
    """Give the deleted item that holds a place the place of the item that is moving there."""
    for number, path in ((moving.id, f"/{moving.id}"), (holder.id, moving.path)):  # no stored path starts with "/"
        root = moving.root_id
        connection.execute(update(items).where(items.c.id == number).values(root_id=root, path=path))
