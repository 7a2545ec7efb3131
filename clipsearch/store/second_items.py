"""The items that the second set lacks: what each of them holds, of which its vectors are to be made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from clipsearch.store.checksums import digest, is_sound
from clipsearch.store.recognised import lines_of
from clipsearch.store.records import RootKind
from clipsearch.store.schema import (
    FIRST_RECOGNISED_PART,
    items,
    recognised_text,
    record_contents,
    record_pictures,
    roots,
    second_items,
    vectors,
)
from clipsearch.store.sql_values import listed
from clipsearch.types import Modality

_PAGE = 1000

_WHAT = (items.c.content_hash, items.c.modality, items.c.caption, record_contents.c.text, recognised_text.c.lines)
"""What the vectors of an item are made from, apart from the pixels that the content hash stands for."""

_JOINED = (
    items.join(roots, roots.c.id == items.c.root_id)
    .outerjoin(record_contents, record_contents.c.item_id == items.c.id)
    .outerjoin(recognised_text, recognised_text.c.item_id == items.c.id)
    .outerjoin(record_pictures, record_pictures.c.item_id == items.c.id)
    .outerjoin(second_items, second_items.c.item_id == items.c.id)
)
_STAMPED = (
    select(
        *items.c,
        roots.c.kind.label("root_kind"),
        record_contents.c.text.label("whole"),
        record_contents.c.source,
        recognised_text.c.lines,
        record_pictures.c.kept,
    )
    .select_from(_JOINED)
    .where(~items.c.deleted)
    .order_by(items.c.id)
)
_PAGE_OF_STAMPS = (
    select(items.c.id, *_WHAT, second_items.c.stamp, second_items.c.reason)
    .select_from(_JOINED)
    .where(~items.c.deleted, items.c.id > bindparam("after"))
    .order_by(items.c.id)
    .limit(_PAGE)
)


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What the catalog has of an item, for an encoder to make its vectors of.

    stamp: of all that. path: as stored. has_picture: whether it has a vector of a picture; has_text: of a
    text. captions: the
    texts that its captions were encoded as, of a picture from a file; caption, text: of a record. lines: of the text in
    its picture. source: of a record's picture. kept: what the library keeps of that. is_sound: whether the catalog's
    entry matches its digest.
    """

    id: int
    stamp: int
    root_id: int
    path: str
    kind: RootKind
    modality: Modality
    size: int
    mtime_ns: int
    content_hash: str
    has_picture: bool
    has_text: bool
    captions: tuple[str, ...]
    caption: str | None
    text: str | None
    lines: tuple[str, ...]
    source: str | None
    kept: str | None
    is_sound: bool


def pending(connection: Connection, after: int, *, retry: bool) -> tuple[list[StoredItem], int | None]:
    """Return what of the next items the second set lacks, and the id of the last one looked at; None after the end.

    after: the id that they come after. retry: also those whose vectors could not be made.
    """
    last, wanted = _look(connection, after, retry)
    return (_items(connection, wanted) if wanted else []), last


def _look(connection: Connection, after: int, retry: bool) -> tuple[int | None, list[int]]:
    """Return the id of the last item of a page, and which of these items the second set lacks."""
    found = connection.execute(_PAGE_OF_STAMPS, {"after": after})
    assert found.cursor is not None
    rows = found.cursor.fetchall()  # in a fraction of the time that SQLAlchemy takes; most items are as they were
    wanted = [row[0] for row in rows if row[-2] != digest(*row[1:-2]) or (retry and row[-1] is not None)]
    return (rows[-1][0] if rows else None), wanted


def stamps(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Return the stamp of each of these items that is live, of what it holds now."""
    return {row.id: _stamp(row) for row in connection.execute(_STAMPED.where(items.c.id.in_(listed(ids))))}


def is_complete(connection: Connection) -> bool:
    """Tell whether every live item was encoded for the second set as it is now, or could not be."""
    after: int | None = 0
    while after is not None:
        after, wanted = _look(connection, after, False)
        if wanted:
            return False
    return True


def reasons(connection: Connection) -> Iterator[tuple[int, str]]:
    """Yield the id and the reason of each live item that lacks vectors in the second set, in order of id."""
    query: Select[Any] = select(second_items.c.item_id, second_items.c.reason)
    query = query.join(items, items.c.id == second_items.c.item_id)
    found = query.where(~items.c.deleted, second_items.c.reason.is_not(None)).order_by(second_items.c.item_id)
    return ((row.item_id, row.reason) for row in connection.execute(found))


def _stamp(row: Row[*tuple[Any, ...]]) -> int:
    return digest(row.content_hash, row.modality, row.caption, row.whole, row.lines)


def _items(connection: Connection, ids: Sequence[int]) -> list[StoredItem]:
    rows = connection.execute(_STAMPED.where(items.c.id.in_(listed(ids)))).all()
    lines = lines_of(connection, ids)
    pictures, with_text = set[int](), set[int]()
    captions: dict[int, list[str]] = {}
    query = select(vectors.c.item_id, vectors.c.modality, vectors.c.text, vectors.c.line, vectors.c.end_line)
    query = query.where(vectors.c.item_id.in_(listed(ids)), vectors.c.part < FIRST_RECOGNISED_PART)
    before: dict[int, int] = {}
    for part in connection.execute(query.order_by(vectors.c.item_id, vectors.c.part)):
        if part.modality == Modality.IMAGE:
            pictures.add(part.item_id)
            continue
        with_text.add(part.item_id)
        if part.text is not None:
            said = captions.setdefault(part.item_id, [])
            if said and part.line <= before[part.item_id]:  # a passage that goes on within a line
                said[-1] = f"{said[-1]} {part.text}"
            else:
                said.append(part.text)
            before[part.item_id] = part.end_line
    return [
        StoredItem(
            row.id, _stamp(row), row.root_id, row.path, RootKind(row.root_kind), Modality(row.modality), row.size,
            row.mtime_ns, row.content_hash, row.modality == Modality.IMAGE or row.id in pictures,
            row.modality == Modality.TEXT or row.id in with_text,
            tuple(captions.get(row.id, [row.caption] if row.caption else [])), row.caption, row.whole,
            tuple(line.text for line in lines.get(row.id, ())), row.source, row.kept, is_sound(row, items),
        )
        for row in rows
    ]  # fmt: skip
