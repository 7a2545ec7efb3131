"""Records, that a caller adds or that a collection has: what the library has of them, and the storing of a batch.

All that is looked up or written goes by whole batches, never by the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, select, update

from clipsearch.metadata import NONE
from clipsearch.paths import quote_path
from clipsearch.store import full_text, item_metadata, tags
from clipsearch.store.inserts import insert_items, insert_many, next_item_id
from clipsearch.store.resolve import ItemColumns, Part
from clipsearch.store.row_places import vector_columns
from clipsearch.store.rows import Appended, remove_rows
from clipsearch.store.schema import item_metadata as metadata_table
from clipsearch.store.schema import items, record_contents, record_pictures, vectors
from clipsearch.store.sql_values import chunks, text_parameter, to_parameter
from clipsearch.types import Modality

DIGEST_LENGTH = 32
"""Characters of a digest: BLAKE2b-128, hexadecimal."""

BOTH = frozenset(Modality)

_CONTENT = tuple(column.name for column in fields(ItemColumns))

_KNOWN = (
    select(
        items.c.path, items.c.id, items.c.content_hash, items.c.modality, items.c.caption,
        record_contents.c.text, record_contents.c.source, record_pictures.c.kept, metadata_table.c.data,
    )
    .outerjoin(record_contents, record_contents.c.item_id == items.c.id)
    .outerjoin(record_pictures, record_pictures.c.item_id == items.c.id)
    .outerjoin(metadata_table, metadata_table.c.item_id == items.c.id)
    .where(items.c.root_id == bindparam("root"), items.c.path.in_(text_parameter("paths")))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """What the library has of a record. digest: of what its picture, or the vector that came with it, is."""

    item_id: int
    digest: str
    modality: str
    caption: str | None
    text: str | None
    source: str | None
    kept: str | None
    metadata: str | None


@dataclass(slots=True)
class Addition:
    """A record to store.

    name: unique in its root. columns: of its item, with the digest of `StoredRecord` in place of the content hash, as
    long as it is not numbered. metadata: JSON. kept: the encoded file of its picture or of a thumbnail, and which of
    the two. own: what the library has under that id. renewed: in which modalities the rows that it has are replaced.
    parts: of the renewed modalities; those of one belong to the rows, float16 (parts, dim), of that modality, in order.
    keeps: leave what is kept of the picture as it is.
    """

    name: str
    columns: ItemColumns
    caption: str | None = None
    text: str | None = None
    metadata: str | None = None
    source: str | None = None
    kept: tuple[bytes, str] | None = None
    own: StoredRecord | None = None
    renewed: frozenset[Modality] = BOTH
    parts: Sequence[Part] = ()
    rows: Mapping[Modality, NDArray[np.float16]] = field(default_factory=dict)
    keeps: bool = False


def find_known(connection: Connection, root_id: int, names: Iterable[str]) -> dict[str, StoredRecord]:
    """Return what the library has under these ids, by id."""
    by_path = {quote_path(name): name for name in names}
    found = connection.execute(_KNOWN, {"root": root_id, "paths": to_parameter(by_path)})
    return {
        by_path[row[0]]: StoredRecord(row[1], row[2][-DIGEST_LENGTH:], row[3], row[4], row[5], row[6], row[7], row[8])
        for row in found
    }


def store(connection: Connection, root_id: int, additions: Sequence[Addition], appended: Appended) -> list[int]:
    """Write the records of a batch, no two of one id, inside the transaction of a commit; return their items."""
    old = [addition for addition in additions if addition.own is not None]
    new = [addition for addition in additions if addition.own is None]
    _clear(connection, old)
    first = next_item_id(connection)
    _update(connection, old)
    columns = [_columns(root_id, addition, first + i) for i, addition in enumerate(new)]
    ids = iter(insert_items(connection, columns))
    placed = [(addition.own.item_id if addition.own else next(ids), addition) for addition in additions]
    insert_many(connection, vectors, list(_places(placed, appended)))
    _insert_contents(connection, placed)
    full_text.add(connection, ((item_id, words_of(each.caption, each.text)) for item_id, each in placed))
    return [item_id for item_id, _ in placed]


def words_of(caption: str | None, text: str | None) -> str:
    """Return the words by which a record is found."""
    return full_text.join_passages((caption, text))


def _clear(connection: Connection, old: Sequence[Addition]) -> None:
    """Take from the items of known records what is stored again: words, metadata, contents, and renewed rows."""
    for chunk in chunks([addition.own.item_id for addition in old if addition.own]):
        full_text.remove(connection, chunk)
        connection.execute(delete(record_contents).where(record_contents.c.item_id.in_(chunk)))
    for modality in Modality:
        for chunk in chunks([a.own.item_id for a in old if a.own and modality in a.renewed]):
            remove_rows(connection, chunk, modality)
    for chunk in chunks([a.own.item_id for a in old if a.own and not a.keeps]):
        connection.execute(delete(record_pictures).where(record_pictures.c.item_id.in_(chunk)))
    for chunk in chunks([a.own.item_id for a in old if a.own and Modality.IMAGE in a.renewed]):
        tags.remove(connection, chunk, tags.TagSource.LABEL)


def _update(connection: Connection, old: Sequence[Addition]) -> None:
    """Give the items of known records their new columns."""
    values = []
    for addition in old:
        assert addition.own is not None
        changed: dict[str, Any] = {"known": addition.own.item_id, "new_caption": addition.caption}
        if Modality.IMAGE in addition.renewed:
            changed |= _content(addition, addition.own.item_id) | {"path": quote_path(addition.name)}
        values.append(changed)
    for renewed in (True, False):
        block = [each for each in values if ("content_hash" in each) is renewed]
        if block:
            statement = update(items).where(items.c.id == bindparam("known"))
            names: dict[str, Any] = {name: bindparam(name) for name in block[0] if name not in ("known", "new_caption")}
            connection.execute(statement.values(caption=bindparam("new_caption"), **names), block)


def _places(placed: Sequence[tuple[int, Addition]], appended: Appended) -> Iterator[dict[str, Any]]:
    """Yield the columns of the vectors of records."""
    for item_id, addition in placed:
        first_rows = {modality: appended.take(modality, len(rows)) for modality, rows in addition.rows.items()}
        yield from vector_columns(item_id, addition.parts, addition.rows, first_rows)


def _insert_contents(connection: Connection, placed: Sequence[tuple[int, Addition]]) -> None:
    metadata = {item_id: each.metadata or NONE for item_id, each in placed if each.metadata or each.own}
    item_metadata.store(connection, metadata)
    contents, pictures = [], []
    for item_id, each in placed:
        if each.text is not None or each.source is not None:
            contents.append({"item_id": item_id, "source": each.source, "text": each.text})
        if each.kept is not None and not each.keeps:
            picture, kept = each.kept
            pictures.append({"item_id": item_id, "picture": picture, "kept": kept})
    insert_many(connection, record_contents, contents)
    insert_many(connection, record_pictures, pictures)


def _columns(root_id: int, addition: Addition, number: int) -> dict[str, Any]:
    """Return the columns of a new item; number: rises with the items."""
    return {
        "root_id": root_id,
        "path": quote_path(addition.name),
        "size": 0,
        "mtime_ns": 0,
        "caption": addition.caption,
        "deleted": False,
        **_content(addition, number),
    }


def _content(addition: Addition, number: int) -> dict[str, Any]:
    """Return the columns that the picture decides.

    The content hash rises with the items: digests alone would scatter over an index of many millions. It is never that
    of a file, so that files and records share no rows.
    """
    columns = {name: getattr(addition.columns, name) for name in _CONTENT}
    columns["content_hash"] = f"{number:08x}{addition.columns.content_hash}"
    return columns
